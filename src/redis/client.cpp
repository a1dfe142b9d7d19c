#include "client.hpp"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <utility>

#include "scripts.hpp"

namespace krul::redis {

/// How long parts live that are not published.
constexpr auto unpublished_life = std::chrono::hours(1);

static tl::unexpected<Error> no_object(const std::string& key) {
  return fail(ErrorCode::not_found, "there is no object " + key + "; recompute what it held");
}
tl::unexpected<Error> strange_reply(const std::string& about) {
  return fail(ErrorCode::corrupt, "the Redis server's reply about " + about +
                                      " is none of krul's; see that nothing else writes under its prefix");
}
tl::unexpected<Error> lock_lost(const std::string& folder) {
  return fail(ErrorCode::busy, "the lock on conversation folder " + folder +
                                   " is lost: it was held for longer than its time without a write and somebody else "
                                   "took it, or the server forgot it; open the conversation anew");
}

Result<Version> Client::version_in(const Request& asked, const std::string& key) {
  if (!asked.status) return propagate(asked.status);
  if (asked.reply->type == REDIS_REPLY_NIL) return no_object(key);
  auto version = parse_version(asked.reply->type == REDIS_REPLY_STRING ? text_of(*asked.reply) : "");
  if (!version) return strange_reply("object " + key);
  return std::move(*version);
}

Result<Version> Client::version(const std::string& key) {
  Request request = ask_for_version(key);
  run(std::span(&request, 1));
  return version_in(request, key);
}

Result<long long> Client::run_script(const std::string& folder, std::vector<std::string> words) {
  Request request = this->request(folder, std::move(words));
  run(std::span(&request, 1));
  if (!request.status) return propagate(request.status);
  if (request.reply->type != REDIS_REPLY_INTEGER) return strange_reply("conversation folder " + folder);
  return request.reply->integer;
}

Status Client::write(const std::string& key, const char* script, std::vector<std::string> more) {
  const std::string folder = folder_of(key);
  const auto token = locks.token(folder);
  if (!token) return propagate(token);
  const FolderKeys names = keys(folder);
  std::vector<std::string> words{"EVAL", std::string(write_script) + script, "2", names.objects(), names.lock()};
  words.insert(words.end(), {*token, in_ms(options.lock_time + lock_memory), names.parts(), object_of(key)});
  std::move(more.begin(), more.end(), std::back_inserter(words));
  const auto answer = run_script(folder, std::move(words));
  if (!answer) return propagate(answer);
  if (*answer == 1) return {};
  if (*answer == 0) {
    locks.lose(folder, *token);
    return lock_lost(folder);
  }
  return fail(ErrorCode::no_space, "the Redis server evicted object " + key +
                                       " before all of it was there; give it more memory, or krul a server of its own");
}

Status Client::write_parts(const std::string& folder, const Version& version, std::span<const std::byte> bytes) {
  const std::string life = std::to_string(std::chrono::seconds(unpublished_life).count());
  std::vector<Request> requests;
  requests.reserve(version.parts());
  for (std::uint64_t part = 0; part < version.parts(); ++part) {
    Request request = this->request(folder, {"SETEX", keys(folder).part(version, part), life});
    const auto rest = bytes.subspan(part * version.part);
    request.command.value = rest.first(std::min<std::size_t>(rest.size(), version.part));
    requests.push_back(std::move(request));
  }
  run(requests);
  for (const Request& request : requests)
    if (!request.status) return request.status;
  return {};
}

void Client::discard(const std::string& folder, const Version& version) {
  std::vector<Request> requests;
  for (std::uint64_t part = 0; part < version.parts(); ++part)
    requests.push_back(request(folder, {"UNLINK", keys(folder).part(version, part)}));
  run(requests);  // what this does not reach expires
}

}  // namespace krul::redis
