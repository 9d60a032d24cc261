#pragma once
// A body of multipart/form-data (RFC 7578), taken apart as it comes; nothing of a part is held but what may be the
// beginning of a boundary.
#include <string>
#include <string_view>

namespace pleat {

class Multipart {
 public:
  class Parts {
   public:
    virtual ~Parts() = default;
    // A part begins; filename is empty where it has none. Both are the client's words.
    virtual void begin(const std::string& name, const std::string& filename) = 0;
    virtual void data(std::string_view bytes) = 0;  // of the part that began last
  };

  // content_type: the header's value. Error(invalid) where it names no boundary.
  Multipart(const std::string& content_type, Parts& parts);

  // The next bytes. Error(invalid) where they are no such body.
  void take(std::string_view bytes);
  // The last boundary has come. What follows it does not count.
  bool ended() const { return state_ == State::ended; }

 private:
  enum class State { before, boundary, header, data, ended };

  bool step();
  void begin_part(std::string_view header);

  Parts& parts_;
  std::string boundary_;  // "\r\n--" and the one of the header
  std::string held_;
  State state_ = State::before;
  int parts_begun_ = 0;
};

}  // namespace pleat
