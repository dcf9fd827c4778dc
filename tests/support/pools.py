"""Every form of a MaxPool: its attributes, and the size of what it pools."""

POOLS = {
    "side by side": ("kernel_shape = [2, 2], strides = [2, 2]", (8, 12)),
    "side by side, with a rest": ("kernel_shape = [2, 2], strides = [2, 2]", (9, 11)),
    "overlapping": ("kernel_shape = [3, 3], strides = [2, 2]", (11, 12)),
    "apart": ("kernel_shape = [2, 2], strides = [3, 3]", (10, 12)),
    "hanging over": ("kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1", (10, 12)),
    "padded": ("kernel_shape = [3, 3], strides = [1, 2], pads = [1, 0, 1, 1]", (9, 12)),
    "dilated": ("kernel_shape = [2, 3], dilations = [2, 2]", (9, 12)),
    "by column": ("kernel_shape = [2, 2], strides = [2, 2], storage_order = 1", (8, 12)),
    "same upper": ('kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_UPPER"', (8, 11)),
    "same lower": ('kernel_shape = [2, 2], strides = [1, 2], auto_pad = "SAME_LOWER"', (8, 11)),
    "valid": ('kernel_shape = [2, 2], strides = [3, 3], auto_pad = "VALID"', (8, 11)),
    "of one": ("kernel_shape = [1, 1]", (4, 5)),
    "one axis": ("kernel_shape = [3], strides = [2]", (13,)),
    "three axes": ("kernel_shape = [2, 2, 2], strides = [1, 2, 2]", (6, 5, 6)),
}
