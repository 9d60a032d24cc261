#pragma once
// Weights in low bits as they lie in a row (kernels/low_bit_row.h). The number of bits is an argument: one kernel does
// for all formats, and where it is a constant nothing of the choice is left. Included by .cu files only.
#include "device_language.h"
#include "kernels/cuda/rows.h"

namespace pleat::cuda {

__device__ inline float from_bf16(uint16_t bits) { return __uint_as_float(unsigned(bits) << 16); }

// Word l of the plane that holds kPlane bits of each of a group's codes.   words: the plane's 2 kPlane words
template <int kPlane, class Words>
__device__ unsigned plane_word(Words words, int l) {
  constexpr unsigned kMask = ((1u << kPlane) - 1) * 0x01010101u;
  return words(l % (2 * kPlane)) >> kPlane * (l / (2 * kPlane)) & kMask;
}

// Word l of a group's codes in `bits` bits: byte i is the code of weight 16 i + l, at 8 bits less 128. The planes of 4,
// 2 and 1 bits stand in this order, each further up in the code.   words: the group's 2 bits words
template <class Words>
__device__ int code_word(Words words, int bits, int l) {
  if (bits == 8) return int(words(l) ^ 0x80808080u);
  const auto behind = [&](int planes) { return [=](int i) { return words(2 * planes + i); }; };
  unsigned out = 0;
  if (bits & 4) out = plane_word<4>(words, l);
  if (bits & 2) out |= plane_word<2>(behind(bits & 4), l) << (bits & 4);
  if (bits & 1) out |= plane_word<1>(behind(bits & 6), l) << (bits & 6);
  return int(out);
}

// 2 kCount words, two or, where they are 16-byte aligned, four at a time.
template <bool kAligned, int kCount>
__device__ void load_words(const uint2* from, unsigned (&words)[2 * kCount]) {
  if constexpr (kAligned && kCount % 2 == 0) {
#pragma unroll
    for (int i = 0; i < kCount / 2; ++i) {
      const uint4 four = reinterpret_cast<const uint4*>(from)[i];
      words[4 * i] = four.x, words[4 * i + 1] = four.y, words[4 * i + 2] = four.z, words[4 * i + 3] = four.w;
    }
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const uint2 pair = from[i];
      words[2 * i] = pair.x, words[2 * i + 1] = pair.y;
    }
  }
}

template <bool kAligned, int kPlane>
__device__ void add_plane(const uint2* from, int first, int (&codes)[16]) {
  unsigned words[2 * kPlane];
  load_words<kAligned, kPlane>(from, words);
#pragma unroll
  for (int l = 0; l < 16; ++l) codes[l] |= int(plane_word<kPlane>([&](int i) { return words[i]; }, l) << first);
}

template <bool kAligned>
__device__ void add_planes(const uint2* pairs, int bits, int (&codes)[16]) {
  if (bits == 8) {
    add_plane<kAligned, 8>(pairs, 0, codes);
#pragma unroll
    for (int l = 0; l < 16; ++l) codes[l] ^= int(0x80808080u);
    return;
  }
  if (bits & 4) add_plane<kAligned, 4>(pairs, 0, codes);
  if (bits & 2) add_plane<kAligned, 2>(pairs + (bits & 4), bits & 4, codes);
  if (bits & 1) add_plane<kAligned, 1>(pairs + (bits & 6), bits & 6, codes);
}

// All words of the group at `group`, a multiple of 8 bytes, and of 16 where the number of bits is even, each read once.
__device__ inline void load_codes(const unsigned char* group, int bits, int (&codes)[16]) {
  const uint2* const pairs = reinterpret_cast<const uint2*>(group);
#pragma unroll
  for (int l = 0; l < 16; ++l) codes[l] = 0;
  if (bits % 2 == 0)
    add_planes<true>(pairs, bits, codes);
  else
    add_planes<false>(pairs, bits, codes);
}

// The sums of a set of scales A_p of planes, at most 127 together, that two signs choose: of planes 0 and 1 (byte c of
// `low` has the sum of those whose bit is set in c), and of 2 and 3.
struct ScaleSums {
  unsigned low, high;
  __device__ ScaleSums(const unsigned char* scales, int planes, int stride)
      : low(scales[0] * 0x01000100u + scales[stride] * 0x01010000u), high(0) {
    if (planes > 2) high = scales[2 * stride] * 0x01000100u;
    if (planes > 3) high += scales[3 * stride] * 0x01010000u;
  }
  // Four codes below 16 to what they look up.
  __device__ int look_up(int codes) const {
    const unsigned pairs = unsigned(codes) | unsigned(codes) >> 4, selector = __byte_perm(pairs, 0, 0x4420);
    return int(__byte_perm(low, 0, selector & 0x3333u) + __byte_perm(high, 0, selector >> 2 & 0x3333u));
  }
};

__device__ inline void look_up(const ScaleSums& sums, int (&codes)[16]) {
#pragma unroll
  for (int l = 0; l < 16; ++l) codes[l] = sums.look_up(codes[l]);
}

// What stands behind a row's codes.
struct LowBitScales {
  const uint16_t *scales, *minimums, *protected_weights;
  const unsigned char* plane_scales;  // [groups][planes]
  int planes = 0;
  bool has_minimums;
  __device__ LowBitScales(const Rows& w, const unsigned char* row, int bits, int groups)
      : scales(reinterpret_cast<const uint16_t*>(row + int64_t(groups) * 8 * bits)),
        minimums(scales + groups),
        protected_weights(w.has_minimums ? minimums + groups : minimums),
        plane_scales(reinterpret_cast<const unsigned char*>(protected_weights)),
        planes(w.planes ? bits : 0),
        has_minimums(w.has_minimums) {
    protected_weights += (groups * planes + 1) / 2;
  }
  __device__ float scale(int group) const { return from_bf16(scales[group]); }
  __device__ float minimum(int group) const { return has_minimums ? from_bf16(minimums[group]) : 0.0f; }
  __device__ ScaleSums sums(int group) const { return {plane_scales + group * planes, planes, 1}; }
};

}  // namespace pleat::cuda
