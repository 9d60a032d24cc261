#include "cluster/exchange.h"

#include <iterator>
#include <utility>

namespace pleat {
namespace {

template <class T>
void append(std::vector<T>& to, std::vector<T>&& from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

}  // namespace

void Growth::add(const Piece& piece) {
  tokens.push_back(piece.token);
  text += piece.text;
  if (piece.logprob) logprobs.push_back(*piece.logprob);
}

void Growth::add(Growth more) {
  append(tokens, std::move(more.tokens));
  text += more.text;
  append(logprobs, std::move(more.logprobs));
}

void Orders::put(Order order) {
  {
    const std::lock_guard lock(mutex_);
    orders_.push_back(std::move(order));
  }
  any_.notify_one();
}

std::vector<Order> Orders::take(std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  if (patience > std::chrono::milliseconds(0)) any_.wait_for(lock, patience, [this] { return !orders_.empty(); });
  return std::exchange(orders_, {});
}

void Reports::put(std::vector<Report> reports, const EngineCounts& counts) {
  const std::lock_guard lock(mutex_);
  counts_ = counts;
  append(reports_, std::move(reports));
  if (reports_.empty()) return;
  KJ_IF_MAYBE (fulfiller, waiting_) {
    (*fulfiller)->fulfill();
    waiting_ = nullptr;
  }
}

kj::Promise<void> Reports::when_any() {
  const std::lock_guard lock(mutex_);
  if (!reports_.empty()) return kj::READY_NOW;
  auto paf = kj::newPromiseAndCrossThreadFulfiller<void>();
  waiting_ = kj::mv(paf.fulfiller);
  return kj::mv(paf.promise);
}

std::vector<Report> Reports::take() {
  const std::lock_guard lock(mutex_);
  return std::exchange(reports_, {});
}

EngineCounts Reports::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

}  // namespace pleat
