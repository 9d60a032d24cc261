#pragma once
// Gathered low-bit rows added up: see low_bit_row.h for the storage and neuron_rows.h for the arithmetic.
#include "kernels/low_bit_row_kernel.h"
#include "kernels/vector_ops.h"

namespace pleat {

constexpr int kMostTogether = 16;  // neurons

// Neurons whose sum of code * q stays within 16 bits. 8 bits are added as two halves.
template <class Form>
constexpr int neurons_together() {
  return Form::planes ? 2 : Form::bits == 6 ? 4 : Form::bits == 5 ? 8 : kMostTogether;
}

// What is summed of each row of x and group: [rows][groups, rounded up to what fills the lanes].
struct LowBitSums {
  static constexpr int64_t kSlots = 512;
  alignas(64) int32_t codes[kMaxLowBitSums];  // [rows][groups][16][4] sums of q * code, of output 16 i + l at [l][i]
  alignas(64) float scale[kSlots];            // s
  alignas(64) float offset[kSlots];           // sum of factor * (minimum + 2^(bits - 1) scale); 8 bits: 0, or NaN
  alignas(64) float q_sum[kSlots];
  alignas(64) float q[kMostTogether / 2][kSlots];        // of two neurons, a byte each, the lowest
  alignas(64) uint8_t pairs[kMostTogether / 2][2][128];  // codes of two neurons; 8 bits: lower halves, upper halves

  int64_t groups, slots;  // of a row
  int32_t* codes_of(int row, int64_t group) { return codes + (row * groups + group) * 64; }
  uint16_t q_of(int pair, int64_t slot) const { return uint16_t(__builtin_bit_cast(uint32_t, q[pair][slot])); }
};

template <class Lanes, class Form>
class AddLowBitKernel {
  using F = typename Lanes::F;
  using I = typename Lanes::I;
  static constexpr int bits = Form::bits;
  static constexpr float kShift = 12582912.0f;  // 1.5 * 2^23
  static constexpr float kMiddle = Form::planes ? 64 : 1 << (bits - 1);
  static constexpr int kTogether = neurons_together<Form>(), kHalves = bits == 8 ? 2 : 1;

 public:
  explicit AddLowBitKernel(const AddLowBit& task) : task_(task) {
    sums_.groups = (task.width + 63) / 64;
    sums_.slots = (sums_.groups + kGroupsAtOnce - 1) / kGroupsAtOnce * kGroupsAtOnce;
    for (int64_t i = 0; i < task.count; ++i) rows_ |= task.masks[i];
  }

  void run() {
    for_rows(rows_, [&](int row) { clear(row); });
    for (int64_t i = 0; i < task_.count; ++i) measure(i);
    for_rows(rows_, [&](int row) { largest_to_step(row); });
    for (int64_t i = 0; i < task_.count; i += kTogether) add_block(i);
    for_rows(rows_, [&](int row) { finish(row); });
  }

 private:
  template <class Use>
  [[gnu::always_inline]] static void for_rows(uint32_t mask, Use use) {
    for (; mask != 0; mask &= mask - 1) use(__builtin_ctz(mask));
  }
  LowBitRow weights(int64_t i) const { return task_.weights.down(task_.row_bytes, task_.neurons[i]); }
  float factor(int64_t i, int row) const {
    const uint32_t before = task_.masks[i] & ((uint32_t(1) << row) - 1);
    return task_.factors[i * task_.rows + (before ? __builtin_popcount(before) : 0)];
  }

  void clear(int row) {
    for (int64_t at = row * sums_.slots; at < (row + 1) * sums_.slots; ++at)
      sums_.scale[at] = sums_.offset[at] = sums_.q_sum[at] = 0;
  }

  static constexpr int64_t kAhead = 16;        // neurons
  static constexpr int64_t kBytesAhead = 512;  // of each row, then of the next block's

  // The largest factor * scale, and what needs no codes.
  void measure(int64_t i) {
    const LowBitRow row = weights(i), next = weights(i + kAhead < task_.count ? i + kAhead : task_.count - 1);
    const int64_t row_bytes = sums_.groups * 8 * bits, asked = row_bytes < kBytesAhead ? row_bytes : kBytesAhead;
    for (int64_t at = 0; i < kTogether && at < asked; at += 64) Lanes::prefetch(row.codes + at);
    for (int64_t begin = 0; begin < sums_.groups; begin += kGroupsAtOnce) {
      Lanes::prefetch(next.scales + begin);
      const F scale = Lanes::load(row.scales + begin);
      F middle = Lanes::set1(0.0f);  // times a factor that is none, NaN still: the largest may miss it
      if constexpr (bits != 8) {
        Lanes::prefetch(next.minimums + begin);
        middle = Lanes::fma(Lanes::set1(kMiddle), scale, Lanes::load(row.minimums + begin));
      }
      for_rows(task_.masks[i], [&](int r) {
        const F mine = Lanes::set1(factor(i, r));
        float* const largest = sums_.scale + r * sums_.slots + begin;
        float* const offset = sums_.offset + r * sums_.slots + begin;
        Lanes::store(largest, Lanes::max(Lanes::load(largest), Lanes::abs(Lanes::mul(mine, scale))));
        Lanes::store(offset, Lanes::fma(mine, middle, Lanes::load(offset)));
      });
    }
  }

  void largest_to_step(int row) {
    float* const scale = sums_.scale + row * sums_.slots;
    for (int64_t at = 0; at < sums_.slots; at += kGroupsAtOnce)
      Lanes::store(scale + at, Lanes::div(Lanes::load(scale + at), Lanes::set1(127.0f)));
  }

  // q of 16 groups of a neuron for one row, added to q_sum. Adding 1.5 * 2^23 rounds to nearest, ties to even.
  F q_of(int64_t i, int row, int64_t begin, F& q_sum) const {
    const F shift = Lanes::set1(kShift), low = Lanes::set1(-127.0f), high = Lanes::set1(127.0f);
    if (i >= task_.count || (task_.masks[i] >> row & 1) == 0) return Lanes::set1(0.0f);
    const F product = Lanes::mul(Lanes::set1(factor(i, row)), Lanes::load(weights(i).scales + begin));
    // Where the step is 0 the quotient may be anything; the comparisons bring it, NaN too, into range.
    F value = Lanes::div(product, Lanes::load(sums_.scale + row * sums_.slots + begin));
    value = Lanes::max(value, low);
    value = Lanes::select_less(value, high, value, high);
    const F q = Lanes::sub(Lanes::add(value, shift), shift);
    q_sum = Lanes::add(q_sum, q);
    return q;
  }

  void quantise(int64_t first, int pairs, int row, int64_t begin) {
    const int64_t at = row * sums_.slots + begin;
    F q_sum = Lanes::load(sums_.q_sum + at);
    for (int pair = 0; pair < pairs; ++pair) {
      const F one = q_of(first + 2 * pair, row, begin, q_sum), two = q_of(first + 2 * pair + 1, row, begin, q_sum);
      // Below 2^22, so that with 1.5 * 2^23 added the lowest bits are the integer's: two bytes, of which a negative
      // lower one takes one from the upper.
      const F carry = Lanes::select_less(one, Lanes::set1(0.0f), Lanes::set1(256.0f + kShift), Lanes::set1(kShift));
      Lanes::store(sums_.q[pair] + at, Lanes::add(Lanes::fma(Lanes::set1(256.0f), two, one), carry));
    }
    Lanes::store(sums_.q_sum + at, q_sum);
  }

  // The codes of a group, two neurons' side by side.
  [[gnu::always_inline]] void deal_pairs(const LowBitRow* rows, int pairs, int64_t group) {
    for (int pair = 0; pair < pairs; ++pair) {
      const I one = group_codes<Lanes, Form>(rows[2 * pair], group),
              two = group_codes<Lanes, Form>(rows[2 * pair + 1], group);
      uint8_t(*const to)[128] = sums_.pairs[pair];
      if constexpr (bits == 8) {
        Lanes::store_pairs(to[0], Lanes::template unpack<0>(one, 15), Lanes::template unpack<0>(two, 15));
        Lanes::store_pairs(to[1], Lanes::template unpack<4>(one, 15), Lanes::template unpack<4>(two, 15));
      } else {
        Lanes::store_pairs(to[0], one, two);
      }
    }
  }

  // Sums of the codes of a group that one row of x is multiplied with: they stay in registers.
  [[gnu::always_inline]] void add_alone(const LowBitRow* rows, int pairs, int64_t group, int64_t slot,
                                        typename Lanes::PairSums* sums) const {
    for (int half = 0; half < kHalves; ++half) sums[half] = Lanes::no_pair_sums();
    for (int pair = 0; pair < pairs; ++pair) {
      const I one = group_codes<Lanes, Form>(rows[2 * pair], group),
              two = group_codes<Lanes, Form>(rows[2 * pair + 1], group);
      const uint16_t q = sums_.q_of(pair, slot);
      if constexpr (bits == 8) {
        sums[0] = Lanes::add_pair(sums[0], Lanes::template unpack<0>(one, 15), Lanes::template unpack<0>(two, 15), q);
        sums[1] = Lanes::add_pair(sums[1], Lanes::template unpack<4>(one, 15), Lanes::template unpack<4>(two, 15), q);
      } else {
        sums[0] = Lanes::add_pair(sums[0], one, two, q);
      }
    }
  }

  void add_block(int64_t first) {
    const int64_t last = task_.count - 1, left = task_.count - first, row_bytes = sums_.groups * 8 * bits;
    const int neurons = int(left < kTogether ? left : kTogether), pairs = (neurons + 1) / 2;
    LowBitRow mine[kTogether];
    const uint8_t* next[kTogether];
    uint32_t rows = 0;
    for (int k = 0; k < 2 * pairs; ++k) {
      const int64_t i = first + k, ahead = i + kTogether;
      mine[k] = weights(i < last ? i : last);
      next[k] = weights(ahead < last ? ahead : last).codes;
      if (i <= last) rows |= task_.masks[i];
    }
    int row[32], count = 0;
    for_rows(rows, [&](int r) {
      row[count++] = r;
      for (int64_t begin = 0; begin < sums_.groups; begin += kGroupsAtOnce) quantise(first, pairs, r, begin);
    });
    if (count == 0) return;
    const uint32_t begun = begun_;
    begun_ |= rows;
    for (int64_t group = 0; group < sums_.groups; ++group) {
      const int64_t at = group * 8 * bits, ahead = at + kBytesAhead;
      if (at % 64 < 8 * bits && (ahead < row_bytes || left > kTogether))
        for (int k = 0; k < neurons; ++k)
          Lanes::prefetch(ahead < row_bytes ? mine[k].codes + ahead : next[k] + (ahead - row_bytes));
      if (count > 1) deal_pairs(mine, pairs, group);
      for (int r = 0; r < count; ++r) {
        const int64_t slot = row[r] * sums_.slots + group;
        typename Lanes::PairSums sums[kHalves];
        if (count == 1) {
          add_alone(mine, pairs, group, slot, sums);
        } else {
          for (int half = 0; half < kHalves; ++half) {
            sums[half] = Lanes::no_pair_sums();
            for (int pair = 0; pair < pairs; ++pair)
              sums[half] = Lanes::add_pairs(sums[half], sums_.pairs[pair][half], sums_.q_of(pair, slot));
          }
        }
        for (int half = 0; half < kHalves; ++half)
          Lanes::add_shifted(sums_.codes_of(row[r], group), sums[half], 4 * half,
                             half > 0 || (begun >> row[r] & 1) != 0);
      }
    }
  }

  void finish(int row) {
    float* const out = task_.out + row * task_.stride;
    for (int64_t group = 0; group < sums_.groups; ++group) {
      const int64_t at = row * sums_.slots + group;
      const F scale = Lanes::set1(sums_.scale[at]), offset = Lanes::set1(sums_.offset[at]);
      const F middle = Lanes::set1(kMiddle * sums_.q_sum[at]);
      I codes[4];
      Lanes::load_dealt(sums_.codes_of(row, group), codes);
      for (int i = 0; i < 4; ++i) {
        const int64_t column = group * 64 + 16 * i, left = task_.width - column;
        const F sum = Lanes::fma(scale, Lanes::sub(Lanes::to_float(codes[i]), middle), offset);
        if (left >= 16)
          Lanes::store(out + column, Lanes::add(Lanes::load(out + column), sum));
        else if (left > 0)
          Lanes::store_part(out + column, Lanes::add(Lanes::load_part(out + column, left), sum), left);
      }
    }
  }

  const AddLowBit& task_;
  uint32_t rows_ = 0;   // that any neuron is selected for
  uint32_t begun_ = 0;  // whose sums are there
  LowBitSums sums_;
};

template <class Lanes>
void add_low_bit_kernel(const AddLowBit& task) {
  for_row_form(task.bits, task.weights, [&]<class Form>() { AddLowBitKernel<Lanes, Form>(task).run(); });
}

}  // namespace pleat
