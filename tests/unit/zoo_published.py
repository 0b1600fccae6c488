"""What was published about the zoo's nets, with its sources: not made by recaffe."""

from __future__ import annotations

# Learned values, without BatchNorm's statistics. torchvision's documentation of its weights
# (num_params) for VGG, ResNet-101, DenseNet and SqueezeNet 1.1; Iandola 2016, table 1, for SqueezeNet
# 1.0; Keras' documentation (trainable) for MobileNet. ResNet-50 has the 64 biases of conv1 that the
# published Caffe net has beside torchvision's 25,557,032. AlexNet, CaffeNet and GoogLeNet follow from
# the sizes of their files (test_zoo.py). LeNet: Caffe's MNIST example (520, 25,050, 400,500, 5,010).
# NiN: 30.4 MB, said to be 29 MB (MiB). quick: Caffe's CIFAR-10 example.
LEARNED = {
    "alexnet": 60_965_224,
    "caffenet": 60_965_224,
    "densenet121": 7_978_856,
    "googlenet": 13_378_280,
    "lenet": 431_080,
    "mobilenet_v1": 4_231_976,
    "nin": 7_595_176,
    "quick": 145_578,
    "resnet101": 44_549_160,
    "resnet50": 25_557_032 + 64,
    "squeezenet_v1.0": 1_248_424,
    "squeezenet_v1.1": 1_235_496,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "vgg_cnn_s": 102_908_520,
}

# Multiply-adds of convolutions and inner products in millions, as precise as published. Sze et al.,
# Efficient processing of deep neural networks, 2017, table II (AlexNet, VGG-16, ResNet-50); He 2015,
# table 1 (ResNet-101); Howard 2017, table 8 (MobileNet); the Netscope CNN analyzer (SqueezeNet, NiN);
# torchvision's documentation (VGG-19, DenseNet).
MULTIPLY_ADDS = {
    "alexnet": "724",
    "caffenet": "724",
    "densenet121": "2830",
    "mobilenet_v1": "569",
    "nin": "1100",
    "resnet101": "7600",
    "resnet50": "3900",
    "squeezenet_v1.0": "861.34",
    "squeezenet_v1.1": "387.75",
    "vgg16": "15500",
    "vgg19": "19630",
}


def rounded(macs: int, published: str) -> str:
    """`macs` in millions with as many digits as the published figure has."""
    if "." in published:
        return f"{macs / 1e6:.{len(published.split('.')[1])}f}"
    zeros = len(published) - len(published.rstrip("0"))
    return str(round(macs / 1e6 / 10**zeros) * 10**zeros)


Shape = tuple[int, ...]

# Blobs as C×H×W. Krizhevsky 2012, figure 2, with BVLC's sizes; Simonyan 2014, table 1; Chatfield 2014,
# table 1; Szegedy 2014, table 1; Iandola 2016, table 1; He 2015, table 1; Howard 2017, table 1; Huang
# 2016, table 1; Lin 2013 and its published prototxt.
SHAPES: dict[str, dict[str, Shape]] = {
    "alexnet": {
        "conv1": (96, 55, 55), "pool1": (96, 27, 27), "conv2": (256, 27, 27), "pool2": (256, 13, 13),
        "conv3": (384, 13, 13), "conv4": (384, 13, 13), "conv5": (256, 13, 13), "pool5": (256, 6, 6),
        "fc6": (4096,), "fc7": (4096,), "fc8": (1000,),
    },
    "caffenet": {
        "conv1": (96, 55, 55), "norm1": (96, 27, 27), "conv2": (256, 27, 27), "norm2": (256, 13, 13),
        "conv3": (384, 13, 13), "conv4": (384, 13, 13), "conv5": (256, 13, 13), "pool5": (256, 6, 6),
        "fc6": (4096,), "fc7": (4096,), "fc8": (1000,),
    },
    "vgg16": {
        "conv1_2": (64, 224, 224), "pool1": (64, 112, 112), "conv2_2": (128, 112, 112),
        "pool2": (128, 56, 56), "conv3_3": (256, 56, 56), "pool3": (256, 28, 28),
        "conv4_3": (512, 28, 28), "pool4": (512, 14, 14), "conv5_3": (512, 14, 14),
        "pool5": (512, 7, 7), "fc6": (4096,), "fc7": (4096,), "fc8": (1000,),
    },
    "vgg19": {
        "conv1_2": (64, 224, 224), "conv2_2": (128, 112, 112), "conv3_4": (256, 56, 56),
        "conv4_4": (512, 28, 28), "conv5_4": (512, 14, 14), "pool5": (512, 7, 7), "fc8": (1000,),
    },
    "vgg_cnn_s": {
        "conv1": (96, 109, 109), "pool1": (96, 37, 37), "conv2": (256, 33, 33), "pool2": (256, 17, 17),
        "conv5": (512, 17, 17), "pool5": (512, 6, 6), "fc6": (4096,), "fc7": (4096,), "fc8": (1000,),
    },
    "googlenet": {
        "conv1/7x7_s2": (64, 112, 112), "pool1/3x3_s2": (64, 56, 56), "conv2/3x3": (192, 56, 56),
        "pool2/3x3_s2": (192, 28, 28), "inception_3a/output": (256, 28, 28),
        "inception_3b/output": (480, 28, 28), "pool3/3x3_s2": (480, 14, 14),
        "inception_4a/output": (512, 14, 14), "inception_4b/output": (512, 14, 14),
        "inception_4c/output": (512, 14, 14), "inception_4d/output": (528, 14, 14),
        "inception_4e/output": (832, 14, 14), "pool4/3x3_s2": (832, 7, 7),
        "inception_5a/output": (832, 7, 7), "inception_5b/output": (1024, 7, 7),
        "pool5/7x7_s1": (1024, 1, 1), "loss1/ave_pool": (512, 4, 4), "loss2/ave_pool": (528, 4, 4),
        "loss1/conv": (128, 4, 4), "loss1/fc": (1024,), "loss3/classifier": (1000,),
    },
    "squeezenet_v1.0": {
        "conv1": (96, 111, 111), "pool1": (96, 55, 55), "fire2/concat": (128, 55, 55),
        "fire3/concat": (128, 55, 55), "fire4/concat": (256, 55, 55), "pool4": (256, 27, 27),
        "fire5/concat": (256, 27, 27), "fire6/concat": (384, 27, 27), "fire7/concat": (384, 27, 27),
        "fire8/concat": (512, 27, 27), "pool8": (512, 13, 13), "fire9/concat": (512, 13, 13),
        # 13×13 in the paper; the published net pads conv10 by 1.
        "conv10": (1000, 15, 15), "pool10": (1000, 1, 1),
    },
    "squeezenet_v1.1": {
        "conv1": (64, 113, 113), "pool1": (64, 56, 56), "fire3/concat": (128, 56, 56),
        "pool3": (128, 28, 28), "fire5/concat": (256, 28, 28), "pool5": (256, 14, 14),
        "fire9/concat": (512, 14, 14), "conv10": (1000, 14, 14), "pool10": (1000, 1, 1),
    },
    "resnet50": {
        "conv1": (64, 112, 112), "pool1": (64, 56, 56), "res2c": (256, 56, 56), "res3d": (512, 28, 28),
        "res4f": (1024, 14, 14), "res5c": (2048, 7, 7), "pool5": (2048, 1, 1), "fc1000": (1000,),
    },
    "resnet101": {
        "conv1": (64, 112, 112), "pool1": (64, 56, 56), "res2c": (256, 56, 56), "res3b3": (512, 28, 28),
        "res4b22": (1024, 14, 14), "res5c": (2048, 7, 7), "pool5": (2048, 1, 1), "fc1000": (1000,),
    },
    "mobilenet_v1": {
        "conv1": (32, 112, 112), "conv2_1/sep": (64, 112, 112), "conv2_2/dw": (64, 56, 56),
        "conv2_2/sep": (128, 56, 56), "conv3_1/sep": (128, 56, 56), "conv3_2/dw": (128, 28, 28),
        "conv3_2/sep": (256, 28, 28), "conv4_1/sep": (256, 28, 28), "conv4_2/dw": (256, 14, 14),
        "conv4_2/sep": (512, 14, 14), "conv5_5/sep": (512, 14, 14), "conv5_6/dw": (512, 7, 7),
        "conv5_6/sep": (1024, 7, 7), "conv6/sep": (1024, 7, 7), "pool6": (1024, 1, 1),
        "fc7": (1000, 1, 1),
    },
    "densenet121": {
        "conv1": (64, 112, 112), "pool1": (64, 56, 56), "concat_2_6": (256, 56, 56),
        "conv2_blk": (128, 56, 56), "pool2": (128, 28, 28), "concat_3_12": (512, 28, 28),
        "pool3": (256, 14, 14), "concat_4_24": (1024, 14, 14), "pool4": (512, 7, 7),
        "concat_5_16": (1024, 7, 7), "pool5": (1024, 1, 1), "fc6": (1000, 1, 1),
    },
    "nin": {
        "cccp2": (96, 54, 54), "pool0": (96, 27, 27), "cccp4": (256, 27, 27), "pool2": (256, 13, 13),
        "cccp6": (384, 13, 13), "pool3": (384, 6, 6), "conv4": (1024, 6, 6), "cccp7": (1024, 6, 6),
        "cccp8": (1000, 6, 6), "pool4": (1000, 1, 1),
    },
    "lenet": {
        "conv1": (20, 24, 24), "pool1": (20, 12, 12), "conv2": (50, 8, 8), "pool2": (50, 4, 4),
        "ip1": (500,), "ip2": (10,),
    },
    "quick": {
        "conv1": (32, 32, 32), "pool1": (32, 16, 16), "pool2": (32, 8, 8), "pool3": (64, 4, 4),
        "ip1": (64,), "ip2": (10,),
    },
}  # fmt: skip

_FIVE = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
_VGG = ["conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3"]

# Layers with weights in the order of the published prototxt, where that isn't long.
MAP = {
    "alexnet": _FIVE,
    "caffenet": _FIVE,
    "vgg_cnn_s": _FIVE,
    "vgg16": [
        *_VGG, "conv4_1", "conv4_2", "conv4_3", "conv5_1", "conv5_2", "conv5_3", "fc6", "fc7", "fc8",
    ],
    "vgg19": [
        *_VGG, "conv3_4", "conv4_1", "conv4_2", "conv4_3", "conv4_4",
        "conv5_1", "conv5_2", "conv5_3", "conv5_4", "fc6", "fc7", "fc8",
    ],
    "squeezenet_v1.0": [
        "conv1",
        *(f"fire{i}/{k}" for i in range(2, 10) for k in ("squeeze1x1", "expand1x1", "expand3x3")),
        "conv10",
    ],
    "nin": [
        "conv1", "cccp1", "cccp2", "conv2", "cccp3", "cccp4", "conv3", "cccp5", "cccp6",
        "conv4-1024", "cccp7-1024", "cccp8-1024",
    ],
}  # fmt: skip
