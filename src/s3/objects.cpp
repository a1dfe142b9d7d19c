#include "objects.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

#include "krul/core/unique_name.hpp"
#include "xml.hpp"

namespace krul::s3 {
namespace {

constexpr std::uint64_t most_parts = 10'000;
constexpr std::size_t most_listed = 1'000'000;
constexpr std::size_t most_bare_pages = 1000;     // of a listing, beside those that list something
constexpr std::uint64_t longest_page = 8U << 20;  // a thousand entries of the longest keys take half of it

// Whether the object is the one that was marked so; its ETag then.
std::optional<std::string> etag_of_marked(Client& client, const std::string& key, const std::string& mark) {
  Transfer look{.action = "look for object " + key, .request = [&] { return Request{.method = "HEAD", .key = key}; }};
  client.run(look);
  if (!look.status || look.answer.mark != mark || look.answer.etag.empty()) return std::nullopt;
  return look.answer.etag;
}

// Whether a failed request may have been done all the same: its answer was lost, or what was in its way is what an
// attempt before it did, of which libcurl makes some by itself.
bool may_be_done(const Transfer& transfer) {
  const long status = transfer.answer.status;
  return transfer.attempts > 1 || status == 0 || status >= 500 || status == 404 || status == 409 || status == 412;
}

std::vector<std::string> headers_of(const std::string& condition) {
  std::vector<std::string> headers;
  if (!condition.empty()) headers.push_back(condition);
  return headers;
}

std::string mark_header(const std::string& mark) {
  return "X-Amz-Meta-Krul-Write: " + mark;
}

// An upload in parts that is thrown away unless it was completed.
class Upload {
 public:
  Upload(Client& client, const std::string& key, std::string id) : client_(client), key_(key), id_(std::move(id)) {}
  Upload(const Upload&) = delete;
  Upload& operator=(const Upload&) = delete;
  ~Upload() {
    if (completed_) return;
    Transfer abort{.action = "throw away an upload", .request = [&] {
                     return Request{.method = "DELETE", .key = key_, .query = {{"uploadId", id_}}};
                   }};
    client_.run(abort);
  }
  [[nodiscard]] const std::string& id() const noexcept { return id_; }
  void completed() noexcept { completed_ = true; }

 private:
  Client& client_;
  const std::string& key_;
  std::string id_;
  bool completed_ = false;
};

Result<std::string> begin_upload(Client& client, const std::string& key, const std::string& mark,
                                 const std::string& action) {
  Transfer begin{
      .action = action, .request = [&] {
        return Request{.method = "POST", .key = key, .query = {{"uploads", ""}}, .headers = {mark_header(mark)}};
      }};
  client.run(begin);
  if (!begin.status) return propagate(begin.status);
  std::string id;
  const Status read = read_xml(begin.answer.body, [&](std::string_view path, std::string_view text) {
    if (path == "InitiateMultipartUploadResult/UploadId") id = text;
  });
  if (!read) return propagate(read);
  if (id.empty()) return strange(action, "names no upload");
  return id;
}

Result<std::string> put_in_parts(Client& client, const std::string& key, std::span<const std::byte> bytes,
                                 const std::string& condition, const std::string& action) {
  const std::string mark = unique_name();
  auto id = begin_upload(client, key, mark, action);
  if (!id) return id;
  Upload upload(client, key, std::move(*id));

  const std::size_t part = std::max<std::size_t>(client.options().part_bytes, (bytes.size() - 1) / most_parts + 1);
  std::vector<Transfer> parts((bytes.size() + part - 1) / part);
  for (std::size_t i = 0; i < parts.size(); ++i)
    parts[i] = {.action = action, .request = [&, i] {
                  const std::size_t begin = i * part;
                  return Request{.method = "PUT",
                                 .key = key,
                                 .query = {{"partNumber", std::to_string(i + 1)}, {"uploadId", upload.id()}},
                                 .body = bytes.subspan(begin, std::min(part, bytes.size() - begin))};
                }};
  client.run(parts);
  std::string list = "<CompleteMultipartUpload>";
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (!parts[i].status) return propagate(parts[i].status);
    if (parts[i].answer.etag.empty()) return strange(action, "names no ETag");
    list +=
        "<Part><PartNumber>" + std::to_string(i + 1) + "</PartNumber><ETag>" + parts[i].answer.etag + "</ETag></Part>";
  }
  list += "</CompleteMultipartUpload>";

  Transfer complete{.action = action, .request = [&] {
                      return Request{.method = "POST",
                                     .key = key,
                                     .query = {{"uploadId", upload.id()}},
                                     .headers = headers_of(condition),
                                     .body = std::as_bytes(std::span(list))};
                    }};
  client.run(complete);
  // A server that begins to answer before it is done can only tell a failure in the body of a success.
  std::string etag, code;
  if (complete.status) {
    const Status read = read_xml(complete.answer.body, [&](std::string_view path, std::string_view text) {
      if (path == "CompleteMultipartUploadResult/ETag") etag = text;
      if (path == "Error/Code") code = text;
    });
    if (read && is_etag(etag)) {
      upload.completed();
      return etag;
    }
  }
  if (complete.status || may_be_done(complete)) {
    if (auto known = etag_of_marked(client, key, mark)) {
      upload.completed();
      return *known;
    }
  }
  if (code == "PreconditionFailed" || code == "ConditionalRequestConflict")
    return fail(ErrorCode::busy, "cannot " + action + ": another writer was there first; open the conversation again");
  if (complete.status) return strange(action, "says that the upload could not be put together; try again");
  return propagate(complete.status);
}

}  // namespace

Result<std::string> put_object(Client& client, const std::string& key, std::span<const std::byte> bytes,
                               const std::string& condition, const std::string& action) {
  if (bytes.size() > client.options().multipart_above) return put_in_parts(client, key, bytes, condition, action);
  const std::string mark = condition.empty() ? "" : unique_name();
  Transfer put{.action = action, .request = [&] {
                 Request request{.method = "PUT", .key = key, .headers = headers_of(condition), .body = bytes};
                 if (!mark.empty()) request.headers.push_back(mark_header(mark));
                 return request;
               }};
  client.run(put);
  if (put.status) {
    if (!condition.empty() && put.answer.etag.empty()) return strange(action, "names no ETag");
    return put.answer.etag;
  }
  if (!mark.empty() && may_be_done(put))
    if (auto known = etag_of_marked(client, key, mark)) return *known;
  // Who wants to replace what is not there any more comes too late as well.
  if (!condition.empty() && put.answer.status == 404 && put.answer.code != "NoSuchBucket")
    return fail(ErrorCode::busy, "cannot " + action + ": another writer was there first; open the conversation again");
  return propagate(put.status);
}

Result<std::vector<Listed>> list_objects(Client& client, const std::string& prefix, const std::string& delimiter,
                                         const std::string& action) {
  std::vector<Listed> listed;
  std::string token;
  for (std::size_t pages = 1;; ++pages) {
    Transfer page{.action = action,
                  .request =
                      [&] {
                        Request request;
                        if (!token.empty()) request.query.emplace_back("continuation-token", token);
                        if (!delimiter.empty()) request.query.emplace_back("delimiter", delimiter);
                        request.query.emplace_back("encoding-type", "url");
                        request.query.emplace_back("list-type", "2");
                        request.query.emplace_back("prefix", prefix);
                        return request;
                      },
                  .most = longest_page};
    client.run(page);
    if (!page.status) return propagate(page.status);
    auto said = read_listing(page.answer.body, prefix, action);
    if (!said) return propagate(said);
    std::move(said->listed.begin(), said->listed.end(), std::back_inserter(listed));
    if (listed.size() > most_listed)
      return fail(ErrorCode::too_large, "cannot " + action +
                                            ": there are more than a million objects; use a prefix of its own for "
                                            "this store");
    if (!said->has_more) return listed;
    if (said->next == token || pages > most_bare_pages + listed.size())
      return strange(action, "does not say how the list goes on");
    token = std::move(said->next);
  }
}

Status erase_object(Client& client, const std::string& key, const std::string& action, const RequestLimits& limits) {
  Transfer erase{.action = action, .request = [&] { return Request{.method = "DELETE", .key = key}; }};
  client.run({&erase, 1}, limits);
  if (erase.answer.status == 404 && erase.answer.code != "NoSuchBucket") return {};
  return erase.status;
}

void abort_uploads(Client& client, const std::string& prefix) {
  Transfer list{.action = "list uploads",
                .request =
                    [&] {
                      return Request{.query = {{"prefix", prefix}, {"uploads", ""}}};
                    },
                .most = longest_page};
  client.run(list);
  if (!list.status) return;
  const auto left = read_uploads(list.answer.body, prefix);
  if (!left) return;
  std::vector<Transfer> aborts;
  aborts.reserve(left->size());
  for (const ListedUpload& upload : *left)
    aborts.push_back({.action = "throw away an upload", .request = [&upload] {
                        return Request{.method = "DELETE", .key = upload.key, .query = {{"uploadId", upload.id}}};
                      }});
  client.run(aborts);
}

}  // namespace krul::s3
