"""Cooperative games: who contributes what, and whom to keep. No model, no file, no clock.

coalitions      the nouns: coalitions, observations, the `Game` protocol, value functions
designs         which coalitions to evaluate
utilities       observations → values
semivalues      Shapley, Banzhaf, the paper's stratified semivalue, with standard errors
surrogates      cheap stand-ins for a value function, with held-out fidelity
contributions   evaluated coalitions → contributions with errors by source
search          which coalition to keep
toy             small games with known answers
"""
