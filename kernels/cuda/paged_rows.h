#pragma once
// The rows of a step as a device knows them.
#include <cstdint>

namespace pleat::cuda {

// One row is one token of one sequence. Kernels read positions and page tables when they run: a captured graph replays
// with others. All on the device.
struct PagedRows {
  int count = 0;                           // rows of a launch
  const int32_t* positions = nullptr;      // [count]; -1: nobody is in this row, nothing is read or written for it
  const int32_t* page_table_of = nullptr;  // [count] which page table is the row's
  const int32_t* page_tables = nullptr;    // [tables, table_pages] page numbers, kPageTokens positions each
  int table_pages = 0;
};

}  // namespace pleat::cuda
