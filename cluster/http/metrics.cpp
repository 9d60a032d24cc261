#include "cluster/http/metrics.h"

#include <algorithm>
#include <cstdio>

#include "kernels/check.h"

namespace pleat {
namespace {

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.10g", value);
  return text;
}

std::string quoted(const std::string& value) {
  std::string out = "\"";
  for (const char c : value) {
    if (c == '"' || c == '\\') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out + '"';
}

void begin(const std::string& name, const char* type, const std::string& help, std::string& out) {
  out += concat("# HELP ", name, ' ', help, "\n# TYPE ", name, ' ', type, '\n');
}

void sample(const std::string& name, const std::string& labels, double value, std::string& out) {
  out += concat(name, labels.empty() ? "" : "{" + labels + "}", ' ', number(value), '\n');
}

// One value of each replica; those that are not connected have none.
struct ReplicaValue {
  const char *name, *type, *help;
  double (*of)(rpc::Stats::Reader stats);
};

// 1, 2, 5, 10, 20 ... of so many digits.
std::vector<double> one_two_five(int digits) {
  std::vector<double> bounds;
  for (double power = 1; digits > 0; --digits, power *= 10)
    for (const double first : {1, 2, 5}) bounds.push_back(first * power);
  return bounds;
}

double share(double part, double whole) { return whole > 0 ? part / whole : 0; }

constexpr ReplicaValue kReplicaValues[] = {
    {"vllm:num_requests_running", "gauge", "Texts that are being written",
     [](rpc::Stats::Reader s) { return double(s.getRunning()); }},
    {"vllm:num_requests_waiting", "gauge", "Requests that wait for their turn",
     [](rpc::Stats::Reader s) { return double(s.getWaiting()); }},
    {"vllm:kv_cache_usage_perc", "gauge", "Share of the key-value cache in use, 1 is all",
     [](rpc::Stats::Reader s) {
       return share(double(s.getKvPages()) - double(s.getKvPagesFree()), double(s.getKvPages()));
     }},
    {"vllm:prefix_cache_queries_total", "counter", "Tokens of prompts, computed or found in the cache",
     [](rpc::Stats::Reader s) { return double(s.getPromptTokens() + s.getReusedTokens()); }},
    {"vllm:prefix_cache_hits_total", "counter", "Tokens of prompts that were found in the cache",
     [](rpc::Stats::Reader s) { return double(s.getReusedTokens()); }},
    {"vllm:num_preemptions_total", "counter", "Times a text gave its pages to another one",
     [](rpc::Stats::Reader s) { return double(s.getPreemptions()); }},
    {"pleat:replica_generated_tokens_total", "counter", "Tokens that the replica has written",
     [](rpc::Stats::Reader s) { return double(s.getGeneratedTokens()); }},
    {"pleat:collective_time_share", "gauge", "Share of rank 0's steps spent in collectives, since the start",
     [](rpc::Stats::Reader s) { return share(s.getCollectiveSeconds(), s.getStepSeconds()); }},
    {"pleat:replica_outstanding_tokens", "gauge", "Prompts and max_tokens that the replica has taken on",
     [](rpc::Stats::Reader s) { return double(s.getOutstandingTokens()); }},
    {"pleat:replica_overloaded_total", "counter", "Requests that the replica turned away because it was full",
     [](rpc::Stats::Reader s) { return double(s.getOverloaded()); }},
};

// One value of each layer that has it.
struct LayerValue {
  const char *name, *help;
  double (*whole)(rpc::Stats::Reader stats, rpc::LayerStats::Reader layer);  // 0: it has none
  double (*part)(rpc::LayerStats::Reader layer);
};

constexpr LayerValue kLayerValues[] = {
    {"pleat:fallback_rate", "Share of rank 0's neurons that generated tokens computed exactly, since the start",
     [](rpc::Stats::Reader s, rpc::LayerStats::Reader l) { return double(s.getFoldedTokens()) * l.getNeurons(); },
     [](rpc::LayerStats::Reader l) { return double(l.getExact()); }},
    {"pleat:predictor_recall", "Share of the neurons to be exact that the predictor chose, of sampled tokens on rank 0",
     [](rpc::Stats::Reader, rpc::LayerStats::Reader l) { return double(l.getRecallNeeded()); },
     [](rpc::LayerStats::Reader l) { return double(l.getRecallFound()); }},
};

void write_layers(const LayerValue& value, rpc::Stats::Reader stats, const std::string& labels, std::string& out) {
  const auto layers = stats.getLayers();
  for (uint32_t i = 0; i < layers.size(); ++i)
    if (const double whole = value.whole(stats, layers[i]); whole > 0)
      sample(value.name, concat(labels, ",layer=\"", i, '"'), value.part(layers[i]) / whole, out);
}

void write_replicas(const ReplicaSet& replicas, const std::string& model, std::string& out) {
  const auto labels = [&](const Replica& replica) { return concat(model, ",replica=", quoted(replica.address())); };
  const auto each = [&](const char* name, const char* type, const char* help, auto&& of) {
    begin(name, type, help, out);
    for (const auto& replica : replicas.all()) sample(name, labels(*replica), double(of(*replica)), out);
  };
  each("pleat:replica_up", "gauge", "1: requests may go there", [](const Replica& r) { return r.usable(); });
  each("pleat:replica_requests_total", "counter", "Texts, or what was left of them, that went there",
       [](const Replica& r) { return r.requests(); });
  each("pleat:replica_failures_total", "counter", "Texts that failed there, and lost connections",
       [](const Replica& r) { return r.failures(); });
  for (const ReplicaValue& value : kReplicaValues) {
    begin(value.name, value.type, value.help, out);
    for (const auto& replica : replicas.all())
      if (replica->facts().stats.get()) sample(value.name, labels(*replica), value.of(*replica->facts().stats), out);
  }
  for (const LayerValue& value : kLayerValues) {
    begin(value.name, "gauge", value.help, out);
    for (const auto& replica : replicas.all())
      if (replica->facts().stats.get()) write_layers(value, *replica->facts().stats, labels(*replica), out);
  }
}

}  // namespace

void Histogram::add(double value) {
  ++counts_[size_t(std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin())];
  sum_ += value;
}

void Histogram::add(kj::Duration time) { add(double(time / kj::MICROSECONDS) * 1e-6); }

void Histogram::write(const std::string& name, const std::string& help, const std::string& labels,
                      std::string& out) const {
  begin(name, "histogram", help, out);
  uint64_t count = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    count += counts_[i];
    const std::string bound = i < bounds_.size() ? number(bounds_[i]) : "+Inf";
    sample(name + "_bucket", concat(labels, ",le=\"", bound, '"'), double(count), out);
  }
  sample(name + "_sum", labels, sum_, out);
  sample(name + "_count", labels, double(count), out);
}

Metrics::Metrics()
    : first_token({.005, .01, .02, .05, .1, .25, .5, 1, 2.5, 5, 10, 20, 40, 80}),
      between_tokens({.001, .0025, .005, .01, .025, .05, .075, .1, .15, .2, .3, .5, 1, 2.5}),
      whole_text({.05, .1, .25, .5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320}),
      each_token({.001, .0025, .005, .01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 10}),
      prompt_size(one_two_five(6)),
      text_size(one_two_five(6)),
      max_tokens(one_two_five(6)),
      texts_asked_for(one_two_five(2)) {}

std::string Metrics::text(const ReplicaSet& replicas) {
  std::string out;
  const ReplicaFacts* facts = replicas.facts();
  if (facts) model_ = facts->model;
  const std::string model = "model_name=" + pleat::quoted(model_);
  const auto one = [&](const char* name, const char* type, const char* help, double value) {
    begin(name, type, help, out);
    sample(name, model, value, out);
  };
  one("vllm:prompt_tokens_total", "counter", "Tokens of the prompts of finished texts", double(prompt_tokens));
  one("vllm:generation_tokens_total", "counter", "Tokens of texts, as they come", double(generated_tokens));
  begin("vllm:request_success_total", "counter", "Finished texts, by reason", out);
  for (const auto& [reason, count] : ends)
    sample("vllm:request_success_total", concat(model, ",finished_reason=", quoted(reason)), double(count), out);
  first_token.write("vllm:time_to_first_token_seconds", "From a request to its first token", model, out);
  between_tokens.write("vllm:inter_token_latency_seconds", "From one token to the next", model, out);
  whole_text.write("vllm:e2e_request_latency_seconds", "From a request to the end of its text", model, out);
  each_token.write("vllm:request_time_per_output_token_seconds", "Mean time between a finished text's tokens", model,
                   out);
  prompt_size.write("vllm:request_prompt_tokens", "Tokens of a finished text's prompt", model, out);
  text_size.write("vllm:request_generation_tokens", "Tokens of a finished text", model, out);
  max_tokens.write("vllm:request_params_max_tokens", "max_tokens of a finished text", model, out);
  texts_asked_for.write("vllm:request_params_n", "Texts that a prompt was to have, all finished", model, out);
  one("pleat:moves_total", "counter", "Times a text went on at another replica", double(moves));
  one("pleat:texts_running", "gauge", "Texts of this router that have not ended", double(texts));
  one("pleat:http_connections", "gauge", "Open connections of clients", double(connections));
  begin("pleat:http_responses_total", "counter", "Responses, by status", out);
  for (const auto& [status, count] : responses)
    sample("pleat:http_responses_total", concat("status=\"", status, '"'), double(count), out);
  write_replicas(replicas, model, out);
  return out;
}

}  // namespace pleat
