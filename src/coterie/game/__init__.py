"""Cooperative games: who contributes what, and whom to keep. No model, no file, no clock.

coalitions      the nouns: coalitions, observations, the `Game` protocol, value functions
designs         which coalitions to evaluate
utilities       observations → values
semivalues      Shapley, Banzhaf, the paper's stratified semivalue; exact; errors, intervals
sampling        the same from a sample of the true game
regression      Shapley values by paired kernel regression; sliding windows
controlled      a surrogate as control variate: unbiased, and steadier
estimators      the table: every estimator by name, with its limits
surrogates      cheap stand-ins for a value function, with held-out fidelity
refits          a surrogate fitted again and again: errors by source
contributions   evaluated coalitions → contributions with errors by source
paper           the published method, steps 1 to 4, readable top to bottom
study           the same with bounds, checks and progress: what a run on a model needs
interactions    which players stand in for each other, and which need each other
search          which coalition to keep
toy             small games with known answers
"""
