#include "cluster/refusal.h"

#include <capnp/schema.h>

namespace pleat {
namespace {

using Code = rpc::Error::Code;
using Kind = rpc::Error::Kind;

ErrorKind kind_of(Code code) {
  switch (code) {
    case Code::BAD_REQUEST:
    case Code::TOO_LARGE:
      return ErrorKind::invalid;
    case Code::QUEUE_FULL:
      return ErrorKind::overloaded;
    case Code::DRAINING:
    case Code::UNAVAILABLE:
      return ErrorKind::disconnected;
    case Code::UNIMPLEMENTED:
      return ErrorKind::unimplemented;
    default:
      return ErrorKind::failed;
  }
}

Code code_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::invalid:
      return Code::BAD_REQUEST;
    case ErrorKind::unimplemented:
      return Code::UNIMPLEMENTED;
    default:
      return Code::INTERNAL;
  }
}

// peer_lost: this server is going down, another may answer.
Kind travelling(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::invalid:
      return Kind::INVALID;
    case ErrorKind::overloaded:
      return Kind::OVERLOADED;
    case ErrorKind::disconnected:
    case ErrorKind::peer_lost:
      return Kind::DISCONNECTED;
    case ErrorKind::unimplemented:
      return Kind::UNIMPLEMENTED;
    default:
      return Kind::FAILED;
  }
}

ErrorKind arrived(Kind kind) {
  switch (kind) {
    case Kind::INVALID:
      return ErrorKind::invalid;
    case Kind::OVERLOADED:
      return ErrorKind::overloaded;
    case Kind::DISCONNECTED:
      return ErrorKind::disconnected;
    case Kind::UNIMPLEMENTED:
      return ErrorKind::unimplemented;
    default:
      return ErrorKind::failed;
  }
}

}  // namespace

Refusal::Refusal(Code code, const std::string& message, uint32_t retry_after_ms)
    : Error(kind_of(code), message), code_(code), retry_after_ms_(retry_after_ms) {}

Refusal::Refusal(const Error& error) : Error(error), code_(code_of(error.kind())) {}

Refusal::Refusal(rpc::Error::Reader error)
    : Error(arrived(error.getKind()), error.getMessage().cStr()),
      code_(error.getCode()),
      retry_after_ms_(error.getRetryAfterMs()) {}

void Refusal::write(rpc::Error::Builder out) const {
  out.setKind(travelling(kind()));
  out.setCode(code_);
  out.setMessage(what());
  out.setRetryAfterMs(retry_after_ms_);
}

std::string name_of(Code code) {
  for (const auto enumerant : capnp::Schema::from<Code>().getEnumerants())
    if (enumerant.getOrdinal() == uint16_t(code)) return enumerant.getProto().getName().cStr();
  return std::to_string(int(code));
}

}  // namespace pleat
