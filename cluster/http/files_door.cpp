#include "cluster/http/files_door.h"

#include <fstream>

#include "cluster/http/gateway.h"
#include "cluster/http/json_body.h"
#include "cluster/http/list_page.h"
#include "cluster/router/waiting.h"
#include "kernels/check.h"

namespace pleat {
namespace {

using nlohmann::ordered_json;

constexpr const char* kFiles = "/v1/files";
constexpr const char* kBatches = "/v1/batches";
constexpr size_t kBatchesShown = 20, kBatchesMost = 100;  // on a page where its limit is not asked for, and at all
constexpr size_t kBatchBytes = 64 * 1024;                 // of a body that asks for one
constexpr size_t kPiece = 64 * 1024;                      // bytes of a file at a time

bool within_path(const std::string& path, const std::string& root) {
  return path == root || path.starts_with(root + "/");
}

HttpError not_found(const std::string& what) { return {404, "invalid_request_error", "notFound", what, 0}; }
HttpError wrong_method(const std::string& path) {
  return {405, "invalid_request_error", "methodNotAllowed", concat(path, " is not for that method"), 0};
}

// What is left of a file into an answer.
kj::Promise<void> pass_on(std::ifstream& file, kj::ArrayPtr<char> buffer, kj::AsyncOutputStream& out) {
  file.read(buffer.begin(), std::streamsize(buffer.size()));
  const auto size = size_t(file.gcount());
  if (size == 0) return kj::READY_NOW;
  return out.write(buffer.begin(), size).then([&file, buffer, &out] { return pass_on(file, buffer, out); });
}

}  // namespace

FilesDoor::FilesDoor(kj::Timer& timer, const kj::HttpHeaderTable& headers, Metrics& metrics, const HttpLimits& limits,
                     const std::string& folder, BatchRunner::Ask ask)
    : timer_(timer),
      headers_(headers),
      metrics_(metrics),
      limits_(limits),
      store_(folder),
      batches_(store_),
      receiver_(timer, limits.body_timeout, store_, disk_),
      runner_(timer, store_, batches_, disk_, limits, std::move(ask)) {}

bool FilesDoor::answers(const std::string& path) { return within_path(path, kFiles) || within_path(path, kBatches); }

kj::Promise<void> FilesDoor::answer(const HttpRequest& request, const std::string& owner, kj::AsyncInputStream& body,
                                    kj::HttpService::Response& response) {
  const bool posts = request.method == kj::HttpMethod::POST, gets = request.method == kj::HttpMethod::GET;
  if (request.path == kFiles) {
    if (posts) return upload(request.content_type, owner, body, response);
    return gets ? list_files(request.query, owner, response) : refuse(response, wrong_method(request.path));
  }
  if (request.path == kBatches) {
    if (posts) return create(owner, body, response);
    return gets ? list_batches(request.query, owner, response) : refuse(response, wrong_method(request.path));
  }
  const bool file = within_path(request.path, kFiles);
  const std::string rest = request.path.substr(std::string(file ? kFiles : kBatches).size() + 1);
  return file ? with_file(request, owner, rest, response) : with_batch(request, owner, rest, response);
}

kj::Promise<void> FilesDoor::upload(const std::string& type, const std::string& owner, kj::AsyncInputStream& body,
                                    kj::HttpService::Response& response) {
  return receiver_.take(type, owner, body)
      .then(
          [this, &response](const std::shared_ptr<const Received>& received) {
            if (received->fault) return refuse(response, *received->fault);
            return send(response, file_json(received->file));
          },
          body_fault(response));
}

// What becomes of a body that goes wrong on its way.
kj::Function<kj::Promise<void>(kj::Exception&&)> FilesDoor::body_fault(kj::HttpService::Response& response) {
  return [this, &response](kj::Exception&& exception) -> kj::Promise<void> {
    if (exception.getType() == kj::Exception::Type::DISCONNECTED) return kj::mv(exception);
    const bool late = exception.getType() == kj::Exception::Type::OVERLOADED;
    return refuse(response,
                  {late ? 408 : 400, "invalid_request_error", "badRequest", exception.getDescription().cStr(), 0});
  };
}

kj::Promise<void> FilesDoor::create(const std::string& owner, kj::AsyncInputStream& body,
                                    kj::HttpService::Response& response) {
  auto read = within(timer_, limits_.body_timeout, body.readAllText(), "the body did not come in time");
  return read.then(
      [this, owner, &response](kj::String text) {
        try {
          PLEAT_REQUIRE(text.size() <= kBatchBytes, "the body has more than ", kBatchBytes, " bytes");
          const Batch& batch = batches_.create(read_object({text.begin(), text.end()}, "the body"), owner);
          runner_.wake();
          return send(response, batch.shown);
        } catch (const Error& error) {
          return refuse(response, http_error(error));
        }
      },
      body_fault(response));
}

kj::Promise<void> FilesDoor::with_file(const HttpRequest& request, const std::string& owner, const std::string& rest,
                                       kj::HttpService::Response& response) {
  const std::string id = rest.substr(0, rest.find('/')), what = rest.substr(id.size());
  const StoredFile* file = store_.find(id);
  if (!file || file->owner != owner || (what != "" && what != "/content"))
    return refuse(response, not_found(concat("there is no file at ", request.path)));
  if (request.method == kj::HttpMethod::GET)
    return what == "" ? send(response, file_json(*file)) : content(*file, response);
  if (request.method != kj::HttpMethod::DELETE || what != "") return refuse(response, wrong_method(request.path));
  if (batches_.uses(id))
    return refuse(response, {409, "invalid_request_error", "inUse", "a batch that is not over uses the file", 0});
  store_.remove(id);
  return send(response, {{"id", id}, {"object", "file"}, {"deleted", true}});
}

kj::Promise<void> FilesDoor::with_batch(const HttpRequest& request, const std::string& owner, const std::string& rest,
                                        kj::HttpService::Response& response) {
  const std::string id = rest.substr(0, rest.find('/')), what = rest.substr(id.size());
  Batch* batch = batches_.find(id);
  if (!batch || batch->owner != owner || (what != "" && what != "/cancel"))
    return refuse(response, not_found(concat("there is no batch at ", request.path)));
  if (request.method != (what == "" ? kj::HttpMethod::GET : kj::HttpMethod::POST))
    return refuse(response, wrong_method(request.path));
  try {
    if (what == "/cancel") batches_.cancel(*batch);
  } catch (const Error& error) {
    return refuse(response, http_error(error));
  }
  return send(response, batch->shown);
}

kj::Promise<void> FilesDoor::list_files(const std::string& asked, const std::string& owner,
                                        kj::HttpService::Response& response) {
  try {
    const ListQuery query = read_list_query(asked, true, FileStore::kMostFiles, FileStore::kMostFiles);
    std::vector<ListItem> all;
    for (const auto& [id, file] : store_.files())
      if (file.owner == owner && (query.purpose.empty() || file.purpose == query.purpose))
        all.push_back({file.created, &id});
    return send(response, list_page(std::move(all), query,
                                    [this](const std::string& id) { return file_json(*store_.find(id)); }));
  } catch (const Error& error) {
    return refuse(response, http_error(error));
  }
}

kj::Promise<void> FilesDoor::list_batches(const std::string& asked, const std::string& owner,
                                          kj::HttpService::Response& response) {
  try {
    const ListQuery query = read_list_query(asked, false, kBatchesShown, kBatchesMost);
    std::vector<ListItem> all;
    for (const auto& [id, batch] : batches_.all())
      if (batch.owner == owner) all.push_back({batch.shown["created_at"].get<int64_t>(), &id});
    return send(response,
                list_page(std::move(all), query, [this](const std::string& id) { return batches_.find(id)->shown; }));
  } catch (const Error& error) {
    return refuse(response, http_error(error));
  }
}

kj::Promise<void> FilesDoor::content(const StoredFile& file, kj::HttpService::Response& response) {
  auto in = kj::heap<std::ifstream>(store_.path(file.id), std::ios::binary);
  if (!in->good()) return refuse(response, {500, "server_error", "internal", "the file cannot be read", 0});
  ++metrics_.responses[200];
  kj::HttpHeaders headers(headers_);
  headers.add("Content-Type", "application/octet-stream");
  headers.add("Cache-Control", "no-store");
  headers.add("X-Content-Type-Options", "nosniff");
  auto out = response.send(200, status_text(200), headers, uint64_t(file.bytes));
  auto buffer = kj::heapArray<char>(kPiece);
  auto passed = pass_on(*in, buffer, *out);
  return passed.attach(kj::mv(out)).attach(kj::mv(buffer)).attach(kj::mv(in));
}

kj::Promise<void> FilesDoor::send(kj::HttpService::Response& response, const ordered_json& value) {
  ++metrics_.responses[200];
  return reply(response, headers_, 200, "application/json", dump(value));
}

kj::Promise<void> FilesDoor::refuse(kj::HttpService::Response& response, const HttpError& error) {
  ++metrics_.responses[error.status];
  return reply(response, headers_, error);
}

}  // namespace pleat
