// The portable twins of a tensor core's products and of asynchronous copies, against plain loops over what PTX says of
// them; bugs with the latter are planted.
#include "tensor_core.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "async_copy.h"
#include "kernels/dtype.h"

namespace pleat::cuda {
namespace {

constexpr int kRows = 16, kColumns = 8;

// Where PTX (mma.m16n8k16, "matrix fragments") has element i of a lane: a, row-major, b by columns, and c.
struct Element {
  int row, column;
};
Element a_element(int lane, int i, int per_word) {
  const int group = lane / 4, place = lane % 4, word = i / per_word;
  return {group + 8 * (word % 2), place * per_word + i % per_word + 4 * per_word * (word / 2)};
}
Element b_element(int lane, int i, int per_word) {
  const int group = lane / 4, place = lane % 4;
  return {place * per_word + i % per_word + 4 * per_word * (i / per_word), group};
}
Element c_element(int lane, int i) { return {lane / 4 + 8 * (i / 2), 2 * (lane % 4) + i % 2}; }

template <class Sum>
struct Fragments {
  unsigned a[32][4], b[32][2];
  Sum c[32][4];
};

template <class Sum>
__global__ void multiply_kernel(Fragments<Sum>* fragments) {
  const int lane = int(threadIdx.x);
  unsigned a[4], b[2];
  Sum c[4];
  for (int i = 0; i < 4; ++i) a[i] = fragments->a[lane][i];
  for (int i = 0; i < 2; ++i) b[i] = fragments->b[lane][i];
  for (int i = 0; i < 4; ++i) c[i] = fragments->c[lane][i];
  multiply_add(c, a, b);
  for (int i = 0; i < 4; ++i) fragments->c[lane][i] = c[i];
}

// Random operands of kInputs numbers a row, small integers that every type holds: sums are exact.
template <int kInputs, class Sum, class Number>
void expect_products() {
  constexpr int kPerWord = 4 / int(sizeof(Number));
  std::mt19937 generator(kInputs);
  int a[kRows][kInputs], b[kInputs][kColumns], c[kRows][kColumns];
  const auto draw = [&] { return int(generator() % 255) - 127; };
  for (auto& row : a)
    for (int& value : row) value = draw();
  for (auto& row : b)
    for (int& value : row) value = draw();
  for (auto& row : c)
    for (int& value : row) value = draw();
  const auto bits_of = [](int value) -> unsigned {
    if constexpr (sizeof(Number) == 1) return uint8_t(value);
    const bf16 number = to_bf16(float(value));
    uint16_t bits = 0;
    std::memcpy(&bits, &number, sizeof bits);
    return bits;
  };
  Fragments<Sum> fragments{};
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4 * kPerWord; ++i) {
      const Element at = a_element(lane, i, kPerWord);
      fragments.a[lane][i / kPerWord] |= bits_of(a[at.row][at.column]) << 8 * sizeof(Number) * (i % kPerWord);
    }
    for (int i = 0; i < 2 * kPerWord; ++i) {
      const Element at = b_element(lane, i, kPerWord);
      fragments.b[lane][i / kPerWord] |= bits_of(b[at.row][at.column]) << 8 * sizeof(Number) * (i % kPerWord);
    }
    for (int i = 0; i < 4; ++i) fragments.c[lane][i] = Sum(c[c_element(lane, i).row][c_element(lane, i).column]);
  }
  launch(multiply_kernel<Sum>, {1, 32}, &fragments);
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i) {
      const Element at = c_element(lane, i);
      int expected = c[at.row][at.column];
      for (int k = 0; k < kInputs; ++k) expected += a[at.row][k] * b[k][at.column];
      ASSERT_EQ(fragments.c[lane][i], Sum(expected)) << "row " << at.row << ", column " << at.column;
    }
}

TEST(TensorCore, MultipliesFragmentsAsPtxLaysThemOut) {
  expect_products<16, float, bf16>();
  expect_products<32, int, int8_t>();
}

__global__ void load_kernel(unsigned* out) {
  __shared__ SharedArray<unsigned, 4 * 8 * 4> matrices;
  const int lane = int(threadIdx.x);
  for (int i = lane; i < 4 * 8 * 4; i += 32) matrices[i] = unsigned(i);
  __syncwarp();
  unsigned words[4];
  load_matrices(words, &matrices[lane * 4]);
  for (int i = 0; i < 4; ++i) out[lane * 4 + i] = words[i];
}

TEST(TensorCore, LoadsAWordOfARowOfEachMatrix) {
  std::vector<unsigned> out(128);
  launch(load_kernel, {1, 32}, out.data());
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i) EXPECT_EQ(out[size_t(lane * 4 + i)], unsigned(i * 32 + lane / 4 * 4 + lane % 4));
}

// Two copies of 16 bytes, of which 12 count, in a group each. Waits until at most kPending groups are under way, or,
// for kPending -1, not at all.
template <int kPending>
__global__ void copy_kernel(const float* from, float* out) {
  __shared__ SharedArray<float, 8> values;
  for (int i = 0; i < 2; ++i) {
    copy_async<16>(&values[4 * i], from + 4 * i, 12);
    commit_copies();
  }
  if constexpr (kPending >= 0) wait_for_copies<kPending>();
  for (int i = 0; i < 8; ++i) out[i] = values[i];
}

TEST(AsyncCopy, ArrivesAtTheWaitAndIsFilledUpWithZeros) {
  alignas(16) const float from[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  float out[8];
  launch(copy_kernel<0>, {1, 1}, +from, +out);
  const float expected[8] = {1, 2, 3, 0, 5, 6, 7, 0};
  for (int i = 0; i < 8; ++i) EXPECT_EQ(out[i], expected[i]);
}

TEST(AsyncCopy, ThatNobodyWaitedForIsNan) {
  alignas(16) const float from[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  float out[8];
  launch(copy_kernel<1>, {1, 1}, +from, +out);
  EXPECT_EQ(out[0], 1);
  for (int i = 4; i < 8; ++i) EXPECT_TRUE(std::isnan(out[i]));
  launch(copy_kernel<-1>, {1, 1}, +from, +out);
  for (const float value : out) EXPECT_TRUE(std::isnan(value));
}

// A buffer is filled anew while the other warp may still read what it held: the barrier between is missing.
__global__ void overwrite_kernel(const float* from, bool wait, float* out) {
  __shared__ SharedArray<float, 4> values;
  if (threadIdx.x == 0) {
    copy_async<16>(values.data(), from, 16);
    commit_copies();
    wait_for_copies<0>();
  }
  __syncthreads();
  const auto read = [&] {
    if (threadIdx.x >= 32) out[threadIdx.x] = values[int(threadIdx.x) % 4];
  };
  if (wait) read();
  if (wait) __syncthreads();
  if (threadIdx.x == 0) copy_async<16>(values.data(), from + 4, 16);
  if (!wait) read();
}

TEST(AsyncCopy, ThatOverwritesWhatOthersStillReadIsNan) {
  alignas(16) const float from[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  float out[64];
  launch(overwrite_kernel, {1, 64}, +from, true, +out);
  for (int i = 32; i < 64; ++i) EXPECT_EQ(out[i], from[i % 4]);
  launch(overwrite_kernel, {1, 64}, +from, false, +out);
  EXPECT_TRUE(std::isnan(out[32]));
}

__global__ void copy_misaligned(const float* from) {
  __shared__ SharedArray<float, 8> values;
  copy_async<16>(&values[2], from, 16);
}
__global__ void different_products() {
  unsigned a[4] = {}, b[2] = {};
  float c[4] = {};
  int sums[4] = {};
  if (threadIdx.x % 2 == 0)
    multiply_add(c, a, b);
  else
    multiply_add(sums, a, b);
}

TEST(TensorCoreDeathTest, MisuseIsNamed) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  alignas(16) const float from[4] = {};
  EXPECT_DEATH(launch(copy_misaligned, {1, 1}, +from), "address is no multiple of its size");
  EXPECT_DEATH(launch(different_products, {1, 32}), "meet in different warp operations");
}

}  // namespace
}  // namespace pleat::cuda
