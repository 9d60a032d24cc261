#pragma once
// As much of HTTP as a test needs: one request a connection, the answer as it comes.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <stdexcept>
#include <string>

namespace pleat::test {

class HttpClient {
 public:
  // "127.0.0.1:PORT"
  explicit HttpClient(const std::string& address) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const size_t colon = address.rfind(':');
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_port = htons(uint16_t(std::stoi(address.substr(colon + 1))));
    inet_pton(AF_INET, address.substr(0, colon).c_str(), &to.sin_addr);
    if (connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0)
      throw std::runtime_error("nobody listens on " + address);
  }
  ~HttpClient() { close(fd_); }
  HttpClient(const HttpClient&) = delete;

  // The status; the body is complete after that. `grown` sees it each time it has grown.
  int post(const std::string& path, const std::string& text, const std::function<void()>& grown = {},
           const std::string& type = "application/json") {
    begin_post(path, text, type);
    return receive(grown);
  }
  // Without waiting for the answer.
  void begin_post(const std::string& path, const std::string& text, const std::string& type = "application/json") {
    send("POST " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: " + type +
         "\r\nContent-Length: " + std::to_string(text.size()) + "\r\n\r\n" + text);
  }
  // fields: more of the header, each with its line end.
  int get(const std::string& path, const std::string& fields = "") {
    send("GET " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + fields + "\r\n");
    return receive({});
  }
  // With the sizes of its chunks removed.
  const std::string& body() const { return body_; }

 private:
  void send(const std::string& bytes) {
    for (size_t sent = 0; sent < bytes.size();) {
      const ssize_t size = ::send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (size <= 0) throw std::runtime_error("the connection is lost");
      sent += size_t(size);
    }
  }
  bool more() {
    char bytes[4096];
    const ssize_t size = recv(fd_, bytes, sizeof bytes, 0);
    if (size > 0) held_.append(bytes, size_t(size));
    return size > 0;
  }
  std::string until(const std::string& end) {
    while (held_.find(end) == std::string::npos)
      if (!more()) throw std::runtime_error("the answer is cut off");
    const std::string text = held_.substr(0, held_.find(end));
    held_.erase(0, text.size() + end.size());
    return text;
  }
  std::string exactly(size_t size) {
    while (held_.size() < size)
      if (!more()) throw std::runtime_error("the answer is cut off");
    const std::string text = held_.substr(0, size);
    held_.erase(0, size);
    return text;
  }
  int receive(const std::function<void()>& grown) {
    const std::string header = until("\r\n\r\n");
    if (const size_t at = header.find("Content-Length: "); at != std::string::npos) {
      body_ = exactly(std::stoul(header.substr(at + 16)));
      return std::stoi(header.substr(9, 3));
    }
    for (size_t size = 1; size > 0;) {
      size = std::stoul(until("\r\n"), nullptr, 16);
      body_ += exactly(size);
      until("\r\n");
      if (grown) grown();
    }
    return std::stoi(header.substr(9, 3));
  }

  int fd_;
  std::string held_, body_;
};

}  // namespace pleat::test
