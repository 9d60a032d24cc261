#pragma once
// The rows of a prompt's step as FlashInfer wants to be told of them: runs, which are rows that stand together with one
// page table and neighbouring positions, and the tiles that their items are cut into. An item is a row in one of the
// query heads that read one kv head. Included by .cu files only.
#include "device_language.h"
#include "kernels/cuda/paged_rows.h"
#include "kernels/cuda/sums.h"
#include "kernels/kv_cache.h"

namespace pleat::cuda {

// On the device. FlashInfer finds a request's end in the entry behind its beginning: run i is request 2 i, so that runs
// need not touch.
struct PromptTiles {
  int32_t* count;             // of tiles
  int32_t* rows;              // [2 most_runs] a run's first row, and the one behind its last
  int32_t* pages;             // [2 most_runs] the same of its entries in the page tables; [2 most_runs]: behind all
  int32_t* last_page_tokens;  // [2 most_runs] in use of the last page
  int32_t* requests;          // [most_tiles] a tile's request
  int32_t* indices;           // [most_tiles] and which of its tiles it is
  int most_runs;

  // Of launches of `rows` rows.  group: query heads to a kv head
  static int most(int rows, int group, int tile_items) { return rows * group / tile_items + rows; }
  static size_t words(int rows, int most_tiles) { return size_t(6 * rows + 2 + 2 * most_tiles); }
  static PromptTiles in(int32_t* memory, int rows, int most_tiles) {
    int32_t *const row = memory + 1, *const page = row + 2 * rows, *const last = page + 2 * rows + 1,
                   *const request = last + 2 * rows;
    return {memory, row, page, last, request, request + most_tiles, rows};
  }
};

// By the first warp of a block. A run's tiles with the most to read come first.
__device__ inline void find_tiles(const PagedRows& rows, int group, int tile_items, const PromptTiles& out) {
  const int lane = int(threadIdx.x) % kWarp;
  const unsigned up_to_here = ~0u >> (kWarp - 1 - lane);
  const auto goes_on = [&](int row) {  // a run, from the row before
    return row > 0 && row < rows.count && rows.positions[row] > 0 &&
           rows.positions[row] == rows.positions[row - 1] + 1 && rows.page_table_of[row] == rows.page_table_of[row - 1];
  };
  int runs = 0, last_page = 0;
  for (int first = 0; first < rows.count; first += kWarp) {
    const int row = first + lane;
    const bool taken = row < rows.count && rows.positions[row] >= 0, begins = taken && !goes_on(row);
    const unsigned beginnings = __ballot_sync(~0u, begins);
    const int run = 2 * (runs + __popc(beginnings & up_to_here) - 1);
    runs += __popc(beginnings);
    if (begins) out.rows[run] = row;
    if (!taken || goes_on(row + 1)) continue;
    const int table = rows.page_table_of[row] * rows.table_pages, position = rows.positions[row];
    out.rows[run + 1] = row + 1;
    out.pages[run] = table;
    out.pages[run + 1] = table + position / kPageTokens + 1;
    out.last_page_tokens[run] = position % kPageTokens + 1;
    last_page = max(last_page, out.pages[run + 1]);
  }
  for (int with = kWarp / 2; with > 0; with /= 2) last_page = max(last_page, __shfl_xor_sync(~0u, last_page, with));
  if (lane == 0) out.pages[2 * out.most_runs] = last_page;
  __syncwarp();
  int tiles = 0;
  for (int run = 0; run < runs; ++run) {
    const int items = (out.rows[2 * run + 1] - out.rows[2 * run]) * group;
    const int count = (items + tile_items - 1) / tile_items;
    for (int tile = lane; tile < count; tile += kWarp) {
      out.requests[tiles + tile] = 2 * run;
      out.indices[tiles + tile] = count - 1 - tile;
    }
    tiles += count;
  }
  if (lane == 0) *out.count = tiles;
}

}  // namespace pleat::cuda
