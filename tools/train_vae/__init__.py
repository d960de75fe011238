"""Trains the variational auto-encoders: configuration files in, checkpoints and logs out.

| module | what |
|---|---|
| settings | configuration files: read, based on another, changed from the command line |
| trainers | the one table of trainers, by the `kind` of a configuration |
| dual_path | the trainer of the paper's dual-path VAE and of what it is compared with |
| methods | the losses of each of these, by name |
| scene | frames of dsp/ula.py, made by torch on the device |
| judge | accuracy on frames that were held back |
| state | where a training stands, on disk |
| together | several processes that train one net |
| log | progress on the screen, CSV, TensorBoard |
| command | the command line |

A trainer is a module with `Config`, a pydantic model, and `train(config, out, progress)`. It calls `progress` between
steps with what it has to tell: numbers by name, `step` and `steps` among them, `resumed: 1` where it goes on at a step.
That call raises KeyboardInterrupt when somebody wants it to stop: it then saves, and lets the interrupt through.
"""
