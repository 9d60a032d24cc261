#pragma once
// What a router counts, in Prometheus' text format. Names are vLLM's where the meaning is the same.
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <kj/time.h>

#include "cluster/router/replica_set.h"

namespace pleat {

class Histogram {
 public:
  // bounds: the buckets' upper ends, ascending; the last bucket has none.
  explicit Histogram(std::vector<double> bounds) : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}

  void add(double value);
  void add(kj::Duration time);  // in seconds
  void write(const std::string& name, const std::string& help, const std::string& labels, std::string& out) const;

 private:
  std::vector<double> bounds_;
  std::vector<uint64_t> counts_;
  double sum_ = 0;
};

struct Metrics {
  Histogram first_token, between_tokens;
  // Of texts that have ended well.
  Histogram whole_text, each_token, prompt_size, text_size, max_tokens;
  Histogram texts_asked_for;             // of each prompt
  uint64_t prompt_tokens = 0;            // of those texts
  uint64_t generated_tokens = 0;         // as they come
  std::map<std::string, uint64_t> ends;  // texts, by finish reason; "abort": none
  std::map<int, uint64_t> responses;     // by HTTP status
  uint64_t moves = 0;                    // of texts from one replica to another
  int64_t texts = 0, connections = 0;    // now

  Metrics();
  std::string text(const ReplicaSet& replicas);

 private:
  std::string model_;  // that replicas have, or had before they went
};

}  // namespace pleat
