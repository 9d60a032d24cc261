"""What a decode step takes on R GPUs: weights read, sums over links (an alpha-beta model); and what folding sends.

A step of B tokens reads every weight byte once, split over R ranks, and makes `per_layer` all-reduces a layer of 4 d B bytes:
    T(R) = (fixed + fix-up * imbalance) / (R * bandwidth * share) + layers * per_layer * all_reduce(R, 4 d B)
`share` is what a whole step on one H100 reached of the copy bandwidth measured beside it; the latencies and the form of
all_reduce() are those by which NCCL chooses among its own algorithms. Seconds and bytes throughout. Kernel launches cost nothing
here (a step is one CUDA graph). For scaling.py.
"""
import math

NCCL = "https://github.com/NVIDIA/nccl/blob/01afd20a77b5804e0ecf1042509dd9d20ebf9e93/src/graph/tuning.cc"
MEASURED = "docs/verified.md"
CONNECTX = "https://docs.nvidia.com/networking/display/ConnectX7VPI/Introduction"

# name: (value, what, source)
CONSTANTS = {
    "memory_bandwidth": (3.0e12, "B/s, copied, H100 SXM, measured", MEASURED),
    "dense_share": (0.66, "of it in a dense step: 2.80 ms for 12 layers of Falcon-7B", MEASURED),
    "folded_share": (0.47, "of it in a folded step: 1.71 ms for the same, folded by 80%", MEASURED),
    "tree_base": (4.4e-6, "s, NCCL's all-reduce by trees, protocol LL, before any hop", NCCL),
    "ring_base": (3.6e-6, "s, the same by rings", NCCL),
    "several_hosts": (1.8, "hops within a host take so many times as long once several hosts take part", NCCL),
    "nvlink_tree_hop": (0.52e-6, "s", NCCL),
    "nvlink_ring_hop": (0.47e-6, "s", NCCL),
    "pcie_hop": (1.0e-6, "s, tree and ring", NCCL),
    "infiniband_tree_hop": (5.0e-6, "s", NCCL),
    "infiniband_ring_hop": (2.7e-6, "s", NCCL),
    "ethernet_hop": (50e-6, "s, kernel to kernel (TCP)", "https://www.wwt.com/article/the-basics-of-high-performance-networking"),
    "ll_share": (0.25, "of the link's bandwidth, protocol LL", NCCL),
    "nvlink_bandwidth": (380e9, "B/s one way, measured of 450", "https://github.com/NVIDIA/nccl/issues/1264"),
    "pcie_bandwidth": (64e9, "B/s one way, half of Gen5 x16's 128", "https://hawkvelt.id.au/post/2024-08-04-nvidia-h100"),
    "infiniband_bandwidth": (50e9, "B/s, NDR 400 Gb/s", CONNECTX),
    "ethernet_bandwidth": (12.5e9, "B/s, 100 GbE", CONNECTX),
}
# name: (GPUs a host, link within, link between)
FABRICS = {
    "NVLink, InfiniBand between hosts": (8, "nvlink", "infiniband"),
    "PCIe, Ethernet between hosts": (8, "pcie", "ethernet"),
    "InfiniBand": (1, "infiniband", "infiniband"),
    "Ethernet": (1, "ethernet", "ethernet"),
}
# hidden, neurons, vocabulary, layers, heads, key-value heads, gated, all-reduces a layer: launcher/bench_subjects.cpp
SHAPES = {
    "gpt2-xl": (1600, 6400, 50257, 48, 25, 25, False, 2),
    "falcon-7b": (4544, 18176, 65024, 32, 71, 1, False, 1),
    "llama-2-7b": (4096, 11008, 32000, 32, 32, 32, True, 2),
    "llama-3-8b": (4096, 14336, 128256, 32, 32, 8, True, 2),
    "small": (1024, 4096, 8192, 4, 16, 16, False, 2),
}


def constant(name):
    return CONSTANTS[name][0]


def hop(link, kind):
    return constant(f"{link}_hop" if link in ("pcie", "ethernet") else f"{link}_{kind}_hop")


def all_reduce(fabric, ranks, size):
    """Seconds of a sum of `size` bytes: the better of a tree and a ring, as NCCL models both."""
    if ranks == 1:
        return 0.0
    per_host, inside, between = FABRICS[fabric]
    local, hosts = min(ranks, per_host), math.ceil(ranks / per_host)
    slower = constant("several_hosts") if hosts > 1 else 1
    narrowest = constant(f"{inside if hosts == 1 else between}_bandwidth") * constant("ll_share")
    tree = constant("tree_base") + 2 * ((local - 1) * slower * hop(inside, "tree") + math.log2(hosts) * hop(between, "tree"))
    ring = constant("ring_base") + (2 * (ranks - 1) - 2 * (hosts - 1)) * slower * hop(inside, "ring") \
        + 2 * (hosts - 1) * hop(between, "ring")
    return min(tree + 2 * size / narrowest, ring + 2 * (ranks - 1) / ranks * size / narrowest)


def weight_bytes(shape):
    """(all but the FFNs, FFNs) in bf16."""
    hidden, neurons, vocabulary, layers, heads, kv_heads, gated, _ = SHAPES[shape]
    attention = 2 * hidden * (2 * hidden + 2 * kv_heads * hidden // heads)
    return 2 * vocabulary * hidden + layers * attention, layers * (6 if gated else 4) * hidden * neurons


def predict(shape, folding, batch=1):
    """Tokens/s for 1 to 1024 GPUs on every fabric. folding: None, or measured {reduction, fixup_share, imbalance}."""
    hidden, _, _, layers, *_, per_layer = SHAPES[shape]
    others, ffn = weight_bytes(shape)
    fixup, share = 0.0, constant("folded_share" if folding else "dense_share")
    if folding:
        ffn *= 1 - folding["reduction"]
        fixup = ffn * folding["fixup_share"]
    out = {}
    for fabric in FABRICS:
        points = []
        for ranks in (2 ** k for k in range(11)):
            imbalance = folding["imbalance"] if folding and ranks > 1 else 1
            read = (others + ffn + fixup * (imbalance - 1)) / ranks / (constant("memory_bandwidth") * share)
            sums = layers * per_layer * all_reduce(fabric, ranks, 4 * hidden * batch)
            points.append({"ranks": ranks, "tokens_per_second": batch / (read + sums), "read_ms": read * 1e3, "sums_ms": sums * 1e3})
        best = max(points, key=lambda p: p["tokens_per_second"])
        out[fabric] = {"points": points, "best_ranks": best["ranks"],
                       "stops_paying_at": next((p["ranks"] for p, q in zip(points, points[1:])
                                                if q["tokens_per_second"] < p["tokens_per_second"]), points[-1]["ranks"])}
    return out


def traffic(shape, fallback, ranks=8):
    """Bytes that a rank sends or fetches for one token and layer: this design, and one that fetches exact neurons' rows."""
    hidden, neurons, *_, gated, per_layer = SHAPES[shape]
    rows = fallback * neurons * (3 if gated else 2)
    return {"shape": shape, "ranks": ranks, "fallback": fallback,
            "all_reduce": per_layer * 2 * (ranks - 1) / ranks * 4 * hidden,
            "fetching_rows": rows * hidden * 2 * (ranks - 1) / ranks}


if __name__ == "__main__":
    print(__doc__)
