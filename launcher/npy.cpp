#include "launcher/npy.h"

#include <bit>

#include "kernels/check.h"

namespace pleat {

static_assert(std::endian::native == std::endian::little, "the header says '<f4'");

NpyWriter::NpyWriter(const std::string& path, int64_t rows, int64_t cols) : path_(path), out_(path, std::ios::binary) {
  PLEAT_REQUIRE(out_.good(), "cannot create '", path, "'");
  std::string header = concat("{'descr': '<f4', 'fortran_order': False, 'shape': (", rows, ", ", cols, "), }");
  // Magic, version and length take 10 bytes; the data begins at a multiple of 64 after a newline.
  header.append(63 - (10 + header.size()) % 64, ' ');
  header += '\n';
  out_.write("\x93NUMPY\x01\x00", 8);
  out_.put(char(header.size() & 0xff)).put(char(header.size() >> 8));
  out_ << header;
}

void NpyWriter::write(std::span<const float> values) {
  out_.write(reinterpret_cast<const char*>(values.data()), std::streamsize(values.size_bytes()));
}

void NpyWriter::finish() {
  out_.close();
  if (out_.fail()) throw Error(ErrorKind::failed, "cannot write '" + path_ + "'");
}

}  // namespace pleat
