#include "cluster/http/gateway.h"

#include <ctime>

#include <nlohmann/json.hpp>

#include "cluster/http/files_door.h"
#include "cluster/http/generation.h"
#include "cluster/http/page.h"
#include "cluster/router/waiting.h"
#include "cluster/to_json.h"

namespace pleat {
namespace {

using nlohmann::ordered_json;

constexpr uint32_t kDrainingRetryMs = 1000;
constexpr size_t kShort = 32 * 1024;  // bytes of a body that is read in a millisecond or two

HttpError nothing_at(const std::string& path) {
  return {404, "invalid_request_error", "notFound", concat("there is nothing at ", path)};
}

ordered_json model_json(const std::string& id, int64_t created) {
  return {{"id", id}, {"object", "model"}, {"created", created}, {"owned_by", "pleat"}};
}

}  // namespace

// A body on its way to a request, or what is wrong with it.
struct Gateway::Reading {
  Reading(kj::String text, bool chat, const OpenAiLimits& limits) : text(kj::mv(text)), chat(chat), limits(limits) {}

  void run() {
    try {
      request = read_openai_request(std::string(text.begin(), text.end()), chat, limits);
    } catch (const Error& error) {
      fault = http_error(error);
    } catch (const std::exception& error) {
      fault = http_error(Error(ErrorKind::failed, error.what()));
    }
    text = nullptr;
  }

  kj::String text;
  const bool chat;
  const OpenAiLimits limits;
  OpenAiRequest request;
  std::optional<HttpError> fault;
};

Gateway::Gateway(kj::Timer& timer, ReplicaSet& replicas, const RouterOptions& router, const HttpLimits& limits,
                 const ApiKeys& keys, const HostNames& names)
    : timer(timer),
      replicas(replicas),
      router(router),
      limits(limits),
      names(names),
      keys_(keys),
      start_(std::time(nullptr)) {
  kj::HttpHeaderTable::Builder builder;
  authorization = builder.add("Authorization");
  origin = builder.add("Origin");
  headers = builder.build();
}

Gateway::~Gateway() noexcept(false) = default;

void Gateway::keep_files(const std::string& folder) {
  files_ = std::make_unique<FilesDoor>(timer, *headers, metrics, limits, folder,
                                       [this](OpenAiRequest request, kj::HttpService::Response& response) {
                                         return start(std::move(request), "the batches", response);
                                       });
}

Gateway::Share::Share(Gateway& gateway, std::string client, int texts)
    : gateway_(gateway), client_(std::move(client)), texts_(texts) {
  gateway_.texts_[client_] += texts_;
}

Gateway::Share::~Share() noexcept(false) {
  const auto found = gateway_.texts_.find(client_);
  if ((found->second -= texts_) == 0) gateway_.texts_.erase(found);
}

kj::Promise<void> Gateway::answer(const HttpRequest& request, kj::AsyncInputStream& body,
                                  kj::HttpService::Response& response) {
  const auto fail = [&](const HttpError& error) {
    ++metrics.responses[error.status];
    return reply(response, *headers, error);
  };
  std::string client = request.client, owner;
  if (keys_.required() && request.path.starts_with("/v1/")) {
    const auto key = keys_.find(request.key);
    if (!key) return fail({401, "authentication_error", "invalid_api_key", "this API key is not known", 0});
    client = concat("key ", *key);
    owner = ApiKeys::digest(request.key);
  }
  if (FilesDoor::answers(request.path))
    return files_ ? files_->answer(request, owner, body, response)
                  : fail({404, "invalid_request_error", "notFound",
                          "this router keeps no files; one that does is started with --files DIR", 0});
  const bool chat = request.path == "/v1/chat/completions";
  const bool posts = chat || request.path == "/v1/completions";
  const bool gets = request.method == kj::HttpMethod::GET || request.method == kj::HttpMethod::HEAD;
  if (posts ? request.method != kj::HttpMethod::POST : !gets)
    return fail({405, "invalid_request_error", "methodNotAllowed",
                 concat(request.path, " is for ", posts ? "POST" : "GET"), 0});
  return posts ? generate(chat, !request.old, client, body, response) : get(request.path, response);
}

kj::Promise<void> Gateway::get(const std::string& path, kj::HttpService::Response& response) {
  constexpr std::string_view kModels = "/v1/models";
  const bool ready = !draining_ && replicas.any_usable();
  const int status = path == "/ready" && !ready ? 503 : 200;
  const auto send = [&](const std::string& type, const std::string& text) {
    ++metrics.responses[status];
    return reply(response, *headers, status, type, text);
  };
  if (path == "/health") return send("text/plain", "alive\n");
  if (path == "/ready") return send("text/plain", ready ? "ready\n" : "no replica can take requests\n");
  if (path == "/metrics") return send("text/plain; version=0.0.4; charset=utf-8", metrics.text(replicas));
  if (path == "/v1/pleat/replicas") return send("application/json", replicas_json());
  if (path == "/") return send("text/html; charset=utf-8", page());
  if (path == kModels) return models("", response);
  if (path.starts_with(std::string(kModels) + "/")) return models(path.substr(kModels.size() + 1), response);
  ++metrics.responses[404];
  return reply(response, *headers, nothing_at(path));
}

// Of one id, or of all where it is empty. There is one model, while a replica is there.
kj::Promise<void> Gateway::models(const std::string& id, kj::HttpService::Response& response) {
  const ReplicaFacts* facts = replicas.facts();
  const bool known = facts && (id.empty() || facts->model == id);
  if (!known && !id.empty()) {
    ++metrics.responses[404];
    return reply(response, *headers, nothing_at("/v1/models/" + id));
  }
  ordered_json all = {{"object", "list"}, {"data", ordered_json::array()}};
  if (facts) all["data"].push_back(model_json(facts->model, start_));
  ++metrics.responses[200];
  return reply(response, *headers, 200, "application/json", dump(id.empty() ? all : all["data"][0]));
}

// A long body beside the loop, one at a time of each client.
kj::Promise<std::shared_ptr<Gateway::Reading>> Gateway::parsed(kj::String text, bool chat, const std::string& client) {
  const bool is_short = text.size() <= kShort;
  auto reading = std::make_shared<Reading>(kj::mv(text), chat, limits.openai);
  if (is_short) {
    reading->run();
    return reading;
  }
  return turns_.take(client).then([this, reading](kj::Own<Turns::Turn> turn) {
    auto done = reader_.run([reading] { reading->run(); });
    return done.attach(kj::mv(turn)).then([reading] { return reading; });
  });
}

kj::Promise<void> Gateway::generate(bool chat, bool may_stream, const std::string& client, kj::AsyncInputStream& body,
                                    kj::HttpService::Response& response) {
  const auto fail = [this, &response](const HttpError& error) {
    ++metrics.responses[error.status];
    return reply(response, *headers, error);
  };
  auto read = within(timer, limits.body_timeout, body.readAllText(), "the body did not come in time");
  return read.then([this, chat, client](kj::String text) { return parsed(kj::mv(text), chat, client); })
      .then(
          [this, may_stream, client, fail, &response](const std::shared_ptr<Reading>& reading) -> kj::Promise<void> {
            if (reading->fault) return fail(*reading->fault);
            if (reading->request.stream && !may_stream)
              return fail(invalid_request("HTTP/1.0 has no streams: ask without 'stream', or by HTTP/1.1"));
            return start(std::move(reading->request), client, response);
          },
          [fail](kj::Exception&& exception) -> kj::Promise<void> {
            if (exception.getType() == kj::Exception::Type::DISCONNECTED) return kj::mv(exception);
            const bool late = exception.getType() == kj::Exception::Type::OVERLOADED;
            return fail(
                {late ? 408 : 400, "invalid_request_error", "badRequest", exception.getDescription().cStr(), 0});
          });
}

kj::Promise<void> Gateway::start(OpenAiRequest request, const std::string& client,
                                 kj::HttpService::Response& response) {
  const auto fail = [&](const HttpError& error) {
    ++metrics.responses[error.status];
    return reply(response, *headers, error);
  };
  if (draining_) return fail({503, "server_error", "draining", "the router is shutting down", kDrainingRetryMs});
  const ReplicaFacts* facts = replicas.facts();
  if (facts && !request.model.empty() && request.model != facts->model)
    return fail({404, "invalid_request_error", "model_not_found",
                 concat("the model '", request.model, "' is not served here, but '", facts->model, "' is"), 0});
  if (const std::string why = never_fits(request); !why.empty())
    return fail({400, "invalid_request_error", "tooLarge", why, 0});
  const auto taken = texts_.find(client);
  const int now = taken == texts_.end() ? 0 : taken->second;
  if (now + request.choices() > limits.client_texts)
    return fail({429, "rate_limit_error", "tooManyRequests",
                 concat("this client has ", now, " texts under way; at most ", limits.client_texts, " are"), 1000});
  auto share = kj::heap<Share>(*this, client, request.choices());
  auto generation = kj::heap<Generation>(*this, std::move(request), response);
  auto done = generation->run();
  return done.attach(kj::mv(generation)).attach(kj::mv(share));
}

std::string Gateway::never_fits(const OpenAiRequest& request) const {
  const int texts = request.choices();
  if (texts > limits.client_texts)
    return concat("the request asks for ", texts, " texts; a client may have ", limits.client_texts, " under way");
  const auto room = replicas.room(request.sampling.max_tokens, request.least_prompt_tokens());
  if (room && texts > *room)
    return concat("the request asks for ", texts, " texts; the servers take at most ", *room,
                  " of this size at a time");
  return "";
}

std::string Gateway::replicas_json() const {
  ordered_json all = {{"object", "list"}, {"data", ordered_json::array()}};
  for (const auto& replica : replicas.all()) {
    ordered_json one = {{"address", replica->address()},
                        {"usable", replica->usable()},
                        {"trouble", replica->trouble()},
                        {"load_tokens", replica->load()},
                        {"info", nullptr},
                        {"stats", nullptr}};
    if (replica->connected()) {
      one["info"] = to_json(*replica->facts().info);
      one["info"].erase("foldReport");  // it is long, and a page asks every second
    }
    if (replica->facts().stats.get()) one["stats"] = to_json(*replica->facts().stats);
    all["data"].push_back(std::move(one));
  }
  return dump(all);
}

}  // namespace pleat
