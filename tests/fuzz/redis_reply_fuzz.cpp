// Whatever a Redis server may reply, over real connections: right replies, right ones that were changed, and any bytes,
// to each call of a store. Nothing is taken for data that was not sent, and once the server is honest the store reads
// what it has.
#include <netdb.h>
#include <poll.h>

#include <chrono>
#include <string>

#include "krul/core/escaped.hpp"
#include "krul/redis/redis_store.hpp"
#include "scripted_redis.hpp"

namespace krul::fuzz {
namespace {

const std::string redis_folder(HonestRedis::folder);
const std::string short_object = redis_folder + "/short", long_object = redis_folder + "/long";

/// What is asked of a store, and what is known of the replies.
struct RedisCalls {
  RedisStore store;
  bool is_honest;  ///< all replies are right
  char never_sent;

  template <class Checked>
  bool succeeded(const Checked& result) const {
    if (accepted(result)) return true;
    const std::string& message = result.error().message;
    require(!is_honest, message.c_str());
    require(escaped(message) == message, "an error commands a terminal");
    return false;
  }
  void check_bytes(std::span<const std::byte> bytes) const {
    const std::string_view read = as_text(bytes);
    require(read.find(never_sent) == std::string_view::npos, "bytes are read that nobody sent");
    require(!is_honest || read == HonestRedis::content(read.size()), "other bytes are read");
  }
  [[nodiscard]] Bytes room(std::size_t bytes) const { return Bytes(bytes, static_cast<std::byte>(never_sent)); }

  void get() {
    Bytes to = room(HonestRedis::short_bytes);
    if (succeeded(store.get(short_object, 0, to))) check_bytes(to);
  }
  void get_together() {
    Bytes one = room(100), other = room(HonestRedis::long_bytes);
    const RangedRead reads[] = {{short_object, 0, one}, {long_object, 0, other}, {long_object, 0, {}}};
    std::size_t ended = 0;
    store.get_together(reads, {}, [&](std::size_t i, const Status& status) {
      ++ended;
      if (succeeded(status)) check_bytes(reads[i].to);
    });
    require(ended == std::size(reads), "not every read ends once");
  }
  void sizes() {
    const std::string keys[] = {short_object, long_object};
    const auto found = store.sizes(keys);
    require(found.size() == std::size(keys), "there are more sizes than objects, or fewer");
    if (succeeded(found[0]) && is_honest) require(*found[0] == HonestRedis::short_bytes, "a size is wrong");
  }
  void load() {
    constexpr std::size_t most = 100'000;
    const auto loaded = store.load(long_object, most);
    if (!succeeded(loaded)) return;
    require(loaded->size() <= most, "an object is larger than allowed");
    if (never_sent == 0 || is_honest) check_bytes(*loaded);
  }
  void list() {
    const auto names = store.list(redis_folder);
    if (!succeeded(names)) return;
    require(std::ranges::is_sorted(*names) && std::ranges::all_of(*names, is_object_name), "a name is none");
    require(!is_honest || names->size() == 2, "not all objects are listed");
  }
  void list_folders() {
    const auto folders = store.list("");
    if (succeeded(folders)) require(std::ranges::all_of(*folders, is_store_folder), "a folder is none");
  }
  void put_and_erase() {
    const Bytes bytes(2500, std::byte{1});
    (void)succeeded(store.put(short_object, bytes));
    (void)succeeded(store.erase(short_object));
  }
  void lock() {
    const auto held = store.lock(redis_folder);
    if (succeeded(held)) put_and_erase();
  }
  /// With a server that is honest now. It may still be silent for longer than the store waits.
  void recover() {
    for (const bool may_fail : {true, false}) {
      Bytes to = room(HonestRedis::short_bytes);
      const Status status = store.get(short_object, 0, to);
      if (status)
        return require(as_text(to) == HonestRedis::content(to.size()), "an honest server's bytes are not read");
      require(may_fail || status.error().code == ErrorCode::deadline, status.error().message.c_str());
    }
  }
};

void read_redis_reply(std::span<const std::byte> bytes) {
  Input input(bytes);
  const std::size_t flags = input.byte(), calls = input.byte();
  const auto is_set = [](std::size_t bits, int bit) { return (bits >> bit & 1) != 0; };
  const bool is_honest = input.is_empty();
  const char never_sent = is_set(flags, 0) ? '\0' : '\xa5';
  ReplyScript script({.is_cluster = is_set(flags, 1)}, input.rest());
  const ScriptedRedis server(script, is_honest ? '\0' : never_sent);
  RedisStoreOptions options{.port = ScriptedRedis::port(),
                            .largest_value = 1024,
                            .connections = is_set(flags, 2) ? 2U : 1U,
                            .request_timeout = is_honest ? std::chrono::seconds(20) : std::chrono::milliseconds(5)};
  if (is_set(flags, 3)) options.user = "u", options.password = "p", options.database = 3;
  auto opened = RedisStore::open(options);
  for (int attempt = 0; attempt < 3 && !accepted(opened); ++attempt) {
    require(!is_honest, "an honest server is refused");
    opened = RedisStore::open(options);
  }
  if (!opened) return;
  RedisCalls store{std::move(*opened), is_honest, is_honest ? '\0' : never_sent};
  constexpr void (RedisCalls::*all_calls[])() = {
      &RedisCalls::get,  &RedisCalls::get_together, &RedisCalls::sizes,         &RedisCalls::load,
      &RedisCalls::list, &RedisCalls::list_folders, &RedisCalls::put_and_erase, &RedisCalls::lock};
  for (const std::size_t call : {calls % 8, calls / 8 % 8}) (store.*all_calls[call])();
  script.drop();
  store.recover();
}

std::vector<Bytes> redis_reply_seeds() {
  std::vector<Bytes> seeds;
  for (const unsigned flags : {0U, 1U, 3U, 5U, 9U, 15U})
    for (const unsigned calls : {0010U, 0032U, 0054U, 0076U}) seeds.push_back(joined({flags, calls}, ""));
  // After the right reply to CLUSTER SLOTS: every reply that a call waits for is another one.
  for (unsigned call = 0; call < 8; ++call) {
    seeds.push_back(joined({1, call, 0, 3, 1, 0, 4, 3, 5, 0, 1}, ""));
    seeds.push_back(joined({3, call, 0, 6, 0, 6, 1, 0, 0, 6, 2, 9}, ""));  // sent elsewhere, then closed
    seeds.push_back(joined({5, call, 0, 0, 2, 9, 0, 7}, ""));              // cut off, then twice
    seeds.push_back(joined({1, call, 0, 0, 5, 0, 5, 4, 5, 8, 6, 3}, ""));
  }
  seeds.push_back(joined({1, 0, 0, 4, 4, 0, 2}, "00"));               // an entry of another size
  seeds.push_back(joined({1, 1, 0, 0, 0, 1, 12}, "$70001\r\n0123"));  // longer than what was asked for
  seeds.push_back(joined({1, 4, 0, 1, 16}, "*3\r\n$-1\r\n:5\r\n*0\r\n"));
  seeds.push_back(joined({3, 0, 1, 39}, "*1\r\n*3\r\n:0\r\n:99\r\n*2\r\n$1\r\nh\r\n:70000\r\n"));
  seeds.push_back(joined({9, 0, 0, 1, 20}, "-WRONGPASS \x1b[2J\xff x\r\n"));
  return seeds;
}

}  // namespace

Target redis_reply_target() {
  return {"redis_reply", read_redis_reply, redis_reply_seeds};
}

}  // namespace krul::fuzz

// What a store waits with. It has nobody else to wait for.
extern "C" int poll(pollfd* polled, nfds_t count, int timeout_ms) {
  if (auto* const server = krul::fuzz::ScriptedRedis::running()) server->serve();
  const timespec timeout{.tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1'000'000};
  return ::ppoll(polled, count, timeout_ms < 0 ? nullptr : &timeout, nullptr);
}

// Whatever host a reply names is the scripted server: nobody else is asked for anything, a server of names included.
extern "C" int getaddrinfo(const char*, const char*, const addrinfo* hints, addrinfo** found) {
  if (hints && hints->ai_family == AF_INET6) return EAI_NONAME;
  auto* const place = new sockaddr_in{};
  place->sin_family = AF_INET;
  place->sin_port = htons(static_cast<std::uint16_t>(krul::fuzz::ScriptedRedis::port()));
  place->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  *found = new addrinfo{};
  (*found)->ai_family = AF_INET;
  (*found)->ai_socktype = SOCK_STREAM;
  (*found)->ai_addrlen = sizeof *place;
  (*found)->ai_addr = reinterpret_cast<sockaddr*>(place);
  return 0;
}
extern "C" void freeaddrinfo(addrinfo* found) {
  delete reinterpret_cast<sockaddr_in*>(found->ai_addr);
  delete found;
}
