#pragma once
// Errors as they travel: a kind, which says what the caller can do, a code for programs and a sentence for people.
#include <string>

#include "cluster/pleat.capnp.h"
#include "kernels/check.h"

namespace pleat {

// An Error with its code. Its kind follows from the code.
class Refusal : public Error {
 public:
  Refusal(rpc::Error::Code code, const std::string& message, uint32_t retry_after_ms = 0);
  // Of any other error: badRequest if it is the caller's fault, unimplemented, else internal.
  explicit Refusal(const Error& error);
  // As it arrived.
  explicit Refusal(rpc::Error::Reader error);

  void write(rpc::Error::Builder out) const;

  rpc::Error::Code code() const { return code_; }
  uint32_t retry_after_ms() const { return retry_after_ms_; }  // 0 unless overloaded

 private:
  rpc::Error::Code code_;
  uint32_t retry_after_ms_ = 0;
};

// "queueFull", "deadlineExceeded" ..., as the schema names them; a number for a code this program does not know.
std::string name_of(rpc::Error::Code code);

}  // namespace pleat
