"""Fewer bits for the weights of a checkpoint.

`schemes` lists the ways; `checkpoint` does it with a library that is here and proves it;
`environment` hands it to another Python, which runs `llmcompressor_script`. No module here bears
the name of a library: where that Python has this folder on its path, it would take the module for
the library.
"""
