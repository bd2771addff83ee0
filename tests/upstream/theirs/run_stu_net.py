"""What STU-Net's own network gives: ``python run_stu_net.py STUNet.py OUT.npz`` (uni-medical/STU-Net at 0652eaf, CPU).

Its two imports of nnunet are an initialiser and a base class; both are left empty.
"""

import importlib.util
import sys
import types

import numpy as np
import torch
from torch import nn

DIMS, DEPTH = [4, 4, 6, 6, 8, 8], [1, 2, 1, 1, 1, 1]
STRIDES, KERNELS = [[2, 2, 2], [2, 2, 2], [1, 2, 2], [1, 2, 2], [1, 1, 1]], [[3, 3, 3]] * 6


def main() -> None:
    for name in ("nnunet", "nnunet.network_architecture"):
        sys.modules[name] = types.ModuleType(name)
    initialisation = types.ModuleType("initialization")
    initialisation.InitWeights_He = lambda slope: lambda module: None
    base = types.ModuleType("neural_network")
    base.SegmentationNetwork = nn.Module
    sys.modules["nnunet.network_architecture.initialization"] = initialisation
    sys.modules["nnunet.network_architecture.neural_network"] = base
    told = importlib.util.spec_from_file_location("theirs", sys.argv[1])
    theirs = importlib.util.module_from_spec(told)
    told.loader.exec_module(theirs)
    torch.manual_seed(0)
    network = theirs.STUNet(1, 3, DEPTH, DIMS, STRIDES, KERNELS).eval()
    network.do_ds = False
    image = torch.randn(1, 1, 8, 32, 16)
    with torch.inference_mode():
        logits = network(image)
    weights = {f"weights/{name}": value.numpy() for name, value in network.state_dict().items()}
    np.savez_compressed(
        sys.argv[2], image=image.numpy(), logits=logits.numpy(), strides=np.array(STRIDES), **weights
    )


if __name__ == "__main__":
    main()
