#include "krul/redis/redis_store.hpp"

#include <algorithm>
#include <set>
#include <utility>

#include "client.hpp"
#include "krul/core/unique_name.hpp"
#include "reading.hpp"
#include "scripts.hpp"

namespace krul {
namespace redis {

/// The strings of an array.
static Result<std::vector<std::string>> strings_in(const redisReply& reply) {
  if (reply.type != REDIS_REPLY_ARRAY) return strange_reply("its keys");
  std::vector<std::string> strings;
  for (std::size_t i = 0; i < reply.elements; ++i) strings.emplace_back(text_of(*reply.element[i]));
  return strings;
}

/// Folders among all keys of one server.
static Status list_folders(Client& client, const std::shared_ptr<Node>& node, std::set<std::string>& folders) {
  // What a server claims to have is not believed beyond all reason.
  constexpr std::size_t most_folders = std::size_t{1} << 24, most_steps = std::size_t{1} << 24;
  const std::string before = client.options.prefix + ":{", after = "}:objects";
  std::string cursor = "0";
  for (std::size_t step = 0; step < most_steps && folders.size() < most_folders; ++step) {
    Request request{
        .command = {.words = {"SCAN", cursor, "MATCH", before + std::string(32, '?') + after, "COUNT", "1000"},
                    .expected = {.most_bytes = std::size_t{16} << 20, .most_elements = std::size_t{1} << 17}},
        .node = node};
    client.run(std::span(&request, 1));
    if (!request.status) return request.status;
    const redisReply& reply = *request.reply;
    if (reply.type != REDIS_REPLY_ARRAY || reply.elements != 2) return strange_reply("its keys");
    const auto keys = strings_in(*reply.element[1]);
    if (!keys) return propagate(keys);
    for (const std::string& key : *keys)
      if (key.size() == before.size() + 32 + after.size() && key.starts_with(before) && key.ends_with(after))
        if (std::string folder = key.substr(before.size(), 32); is_store_folder(folder))
          folders.insert(std::move(folder));
    cursor = text_of(*reply.element[0]);
    if (cursor == "0") return {};
  }
  return fail(ErrorCode::too_large, "the Redis server at " + node->address().text() +
                                        " has no end of conversation folders; use another prefix");
}

}  // namespace redis

struct RedisStore::State : redis::Client {
  using Client::Client;
};

RedisStore::RedisStore(std::shared_ptr<State> state) : state_(std::move(state)) {}

Result<RedisStore> RedisStore::open(const RedisStoreOptions& options) {
  if (const Status status = options.check(); !status) return propagate(status);
  auto state = std::make_shared<State>(options);
  if (const Status status = state->nodes.discover(); !status) return propagate(status);
  return RedisStore(std::move(state));
}

Status RedisStore::put(const std::string& key, std::span<const std::byte> bytes) {
  expects(is_store_key(key), "RedisStore::put: not a store key");
  if (bytes.size() > capabilities().largest)
    return fail(ErrorCode::too_large, "object " + key + " has more than the " + std::to_string(capabilities().largest) +
                                          " bytes that fit; allow larger values (largest_value)");
  const std::string folder = redis::folder_of(key);
  // A lock that is known to be lost costs no transfer.
  if (const auto token = state_->locks.token(folder); !token) return propagate(token);
  const redis::Version version{bytes.size(), state_->options.largest_value, unique_name()};
  Status status = state_->write_parts(folder, version, bytes);
  if (status) {
    const std::string life = state_->options.expiry ? redis::in_ms(*state_->options.expiry) : "0";
    status = state_->write(key, redis::publish_script, {version.entry(), life});
  }
  // Where only the answer was lost, the object may be there.
  const bool is_unknown = !status && is_out_of_reach(status.error().code);
  if (!status && !is_unknown) state_->discard(folder, version);
  return status;
}

Status RedisStore::get(const std::string& key, std::uint64_t offset, std::span<std::byte> to) {
  expects(is_store_key(key), "RedisStore::get: not a store key");
  Status status;
  const RangedRead read{key, offset, to};
  redis::read_together(*state_, std::span(&read, 1), {}, [&](std::size_t, const Status& how) { status = how; });
  return status;
}

void RedisStore::get_together(std::span<const RangedRead> reads, const RequestLimits& limits, const ReadEnd& ended) {
  for (const RangedRead& read : reads) expects(is_store_key(read.key), "RedisStore::get_together: not a store key");
  redis::read_together(*state_, reads, limits, ended);
}

Result<std::uint64_t> RedisStore::size(const std::string& key) {
  expects(is_store_key(key), "RedisStore::size: not a store key");
  return std::move(sizes(std::span(&key, 1)).front());
}

std::vector<Result<std::uint64_t>> RedisStore::sizes(std::span<const std::string> keys) {
  std::vector<redis::Request> requests;
  requests.reserve(keys.size());
  for (const std::string& key : keys) {
    expects(is_store_key(key), "RedisStore::sizes: not a store key");
    requests.push_back(state_->ask_for_version(key));
  }
  state_->run(requests);
  std::vector<Result<std::uint64_t>> sizes;
  sizes.reserve(keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const auto version = state_->version_in(requests[i], keys[i]);
    if (version) {
      state_->versions.enter(keys[i], *version);
      sizes.emplace_back(version->size);
    } else {
      sizes.emplace_back(propagate(version));
    }
  }
  return sizes;
}

Result<std::vector<std::byte>> RedisStore::load(const std::string& key, std::uint64_t most) {
  expects(is_store_key(key), "RedisStore::load: not a store key");
  std::string missed;
  constexpr int most_attempts = 64;
  for (int attempt = 0; attempt < most_attempts; ++attempt) {
    const auto version = state_->version(key);
    if (!version) return propagate(version);
    if (version->size > most) return larger_than(most, key);
    if (version->name == missed) return redis::part_is_gone(key);
    std::vector<std::byte> bytes(static_cast<std::size_t>(version->size));
    std::vector<redis::Request> pieces;
    redis::ask_for_pieces(*state_, {key, 0, bytes}, *version, pieces);
    state_->run(pieces);
    bool is_whole = true;
    for (const redis::Request& piece : pieces) {
      const auto there = redis::is_there(piece, key);
      if (!there) return propagate(there);
      is_whole = is_whole && *there;
    }
    if (is_whole) return bytes;
    missed = version->name;
  }
  return fail(ErrorCode::busy, "object " + key + " is replaced again and again; try again");
}

Status RedisStore::erase(const std::string& key) {
  expects(is_store_key(key), "RedisStore::erase: not a store key");
  return state_->write(key, redis::erase_script, {});
}

Result<std::vector<std::string>> RedisStore::list(const std::string& folder) {
  expects(folder.empty() || is_store_folder(folder), "RedisStore::list: not a folder");
  if (folder.empty()) {
    std::set<std::string> folders;
    for (const auto& node : state_->nodes.masters())
      if (const Status status = redis::list_folders(*state_, node, folders); !status) return propagate(status);
    return std::vector<std::string>(folders.begin(), folders.end());
  }
  redis::Request request = state_->request(folder, {"HKEYS", state_->keys(folder).objects()});
  request.command.expected = {.most_bytes = std::size_t{64} << 20, .most_elements = std::size_t{1} << 20};
  state_->run(std::span(&request, 1));
  if (!request.status) return propagate(request.status);
  auto names = redis::strings_in(*request.reply);
  if (!names) return propagate(names);
  std::erase_if(*names, [](const std::string& name) { return !is_object_name(name); });
  std::sort(names->begin(), names->end());
  return names;
}

Result<RedisStore::Lock> RedisStore::lock(const std::string& folder) {
  expects(is_store_folder(folder), "RedisStore::lock: not a folder");
  const auto busy = [&](const std::string& how_long) {
    return fail(ErrorCode::busy,
                "another writer holds conversation folder " + folder + how_long +
                    "; try again when it is done; where it is a Conversation of this process, destroy that first");
  };
  if (state_->locks.is_held(folder)) return busy("");
  // All that may throw comes before the lock is taken, or when there is somebody to give it back.
  std::string name = folder, token = unique_name(), own_token = token;
  const auto left = state_->run_script(
      folder, {"EVAL", redis::lock_script, "1", state_->keys(folder).lock(), token,
               redis::in_ms(state_->options.lock_time + redis::lock_memory), redis::in_ms(redis::lock_memory)});
  if (!left) return propagate(left);
  if (*left > 0) return busy(" for " + std::to_string((*left + 999) / 1000) + " s more, or longer if it writes");
  Lock lock(state_, std::move(name), std::move(own_token));
  state_->locks.enter(folder, token);
  return lock;
}

StoreCapabilities RedisStore::capabilities() const {
  return {.shared = true, .distant = true, .largest = state_->options.largest_value * redis::most_parts};
}

RedisStore::Lock::Lock(std::shared_ptr<State> state, std::string folder, std::string token)
    : state_(std::move(state)), folder_(std::move(folder)), token_(std::move(token)) {}

RedisStore::Lock::~Lock() {
  if (!state_) return;
  // A lock that cannot be given back ends by itself.
  try {
    static_cast<void>(
        state_->run_script(folder_, {"EVAL", redis::release_script, "1", state_->keys(folder_).lock(), token_}));
  } catch (...) {
  }
  state_->locks.leave(folder_, token_);
}

}  // namespace krul
