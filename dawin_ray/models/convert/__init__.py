"""Checkpoints as people have them -> safetensors in open_clip's names.

`program` reads a pickle without a call of anything that it names, `allowed` says which names may
stand in it, `archive` knows PyTorch's files around it, `modules` takes the tensors out of what was
read, `huggingface` and `adapter` rename and merge, and `convert` is the whole. Nothing here imports
`pickle`: what a file names is written down and never looked up.
"""
