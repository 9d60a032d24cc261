#pragma once
// Products of small matrices by a warp's tensor core, from sm_80 on. kernels/emulator/tensor_core.h says the same for
// the emulator. All lanes of a warp call these together.
//
// An operand is rows of 32 bytes, 16 bf16 or 32 int8: 16 rows of a, 8 of b. Of them lane l holds words l % 4 and
// 4 + l % 4 of the rows g = l / 4 (and of a, g + 8):
//   a[0], a[1]   the first word of rows g and g + 8;   a[2], a[3]   the second
//   b[0], b[1]   the first and the second word of row g
//   c[0], c[1]   row g of a with rows 2 (l % 4) and 2 (l % 4) + 1 of b;   c[2], c[3]   row g + 8 of a with the same
// (PTX: mma.m16n8k16 and mma.m16n8k32, b by columns.)
#include "device_language.h"

namespace pleat::cuda {

// c += a b^T over 16 bf16. Products are exact; how their sum is ordered and rounded is the device's own, and relied
// upon to be the same for every element, whatever the others are.
__device__ inline void multiply_add(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// c += a b^T over 32 int8, exact.
__device__ inline void multiply_add(int (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four matrices of 8 rows of 16 bytes: `row`, in shared memory, is row l % 8 of matrix l / 8; words[i] becomes word
// l % 4 of row l / 4 of matrix i. (PTX: ldmatrix.x4.)
__device__ inline void load_matrices(unsigned (&words)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(unsigned(__cvta_generic_to_shared(row)))
               : "memory");
}

// Four matrices of 8 rows of 8 numbers of 16 bits, given as above: words[i] becomes number l / 4 of rows 2 (l % 4) and
// 2 (l % 4) + 1 of matrix i. (PTX: ldmatrix.x4.trans.)
__device__ inline void load_transposed(unsigned (&words)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(unsigned(__cvta_generic_to_shared(row)))
               : "memory");
}

}  // namespace pleat::cuda
