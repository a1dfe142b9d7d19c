#include <doctest/doctest.h>

#include <poll.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "redis_server.hpp"
#include "unit/store/store_test_support.hpp"

namespace krul {
namespace {

using test::folder_a;
using test::RedisServer;
using test::Socket;

const std::string asked_key = folder_a + "/object";

/// Answers each request with what a function makes of it. "" is no answer; a text that ends in FLOOD goes on for ever.
class HostileServer {
 public:
  using Answer = std::function<std::string(std::string_view)>;

  explicit HostileServer(Answer answer) : answer_(std::move(answer)), listening_(Socket::listening()) {
    thread_ = std::jthread([this](const std::stop_token& stop) { serve(stop); });
  }
  [[nodiscard]] int port() const { return listening_.port(); }
  /// @param patience  with a server that may say nothing at all
  [[nodiscard]] RedisStoreOptions options(std::chrono::milliseconds patience) const {
    RedisStoreOptions options;
    options.port = port();
    options.connections = 2;
    options.request_timeout = patience;
    return options;
  }
  /// Bytes of a flood that were taken.
  [[nodiscard]] std::size_t flooded() const noexcept { return flooded_; }

 private:
  void serve(const std::stop_token& stop) {
    std::vector<Socket> clients;
    while (!stop.stop_requested()) {
      std::vector<pollfd> polled{{.fd = listening_.descriptor(), .events = POLLIN, .revents = 0}};
      for (const Socket& client : clients)
        polled.push_back({.fd = client.descriptor(), .events = POLLIN, .revents = 0});
      if (::poll(polled.data(), polled.size(), 5) <= 0) continue;
      std::vector<Socket> open;
      for (std::size_t i = 0; i < clients.size(); ++i)
        if (polled[i + 1].revents == 0 || reply(clients[i].descriptor())) open.push_back(std::move(clients[i]));
      clients.swap(open);
      if (polled[0].revents != 0)
        clients.emplace_back(::accept4(listening_.descriptor(), nullptr, nullptr, SOCK_CLOEXEC));
    }
  }
  bool reply(int client) {
    char room[65536];
    const ssize_t count = ::recv(client, room, sizeof room, 0);
    if (count <= 0) return false;
    std::string text = answer_(std::string_view(room, static_cast<std::size_t>(count)));
    const bool is_flood = text.ends_with("FLOOD");
    if (is_flood) text.resize(text.size() - 5);
    ::send(client, text.data(), text.size(), MSG_NOSIGNAL);
    if (!is_flood) return true;
    const std::string more(1 << 20, 'x');
    for (int i = 0; i < 64; ++i) {
      const ssize_t sent = ::send(client, more.data(), more.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      flooded_ += static_cast<std::size_t>(sent);
    }
    return true;
  }

  Answer answer_;
  Socket listening_;
  std::atomic<std::size_t> flooded_ = 0;
  std::jthread thread_;
};

/// What no server says, and what some say too much of.
std::vector<std::string> strange_replies() {
  std::string nested, deep_and_wide;
  for (int i = 0; i < 20; ++i) nested += "*1\r\n";
  for (int i = 0; i < 7; ++i) deep_and_wide += "*1000\r\n";
  using namespace std::string_literals;
  return {"",
          "x",
          "\r\n",
          "\0\0\0\0\r\n"s,
          "+OK\r\n",
          "+\r\n",
          ":1\r\n",
          ":-9223372036854775808\r\n",
          ":99999999999999999999\r\n",
          ":x\r\n",
          "$-1\r\n",
          "$-2\r\n",
          "$0\r\n\r\n",
          "$5\r\nab",
          "$2\r\nabXX",
          "$9223372036854775807\r\n",
          "$9223372036854775805\r\nabc",
          "$18446744073709551615\r\n",
          "$99999999999\r\nFLOOD",
          "+FLOOD",
          "-FLOOD",
          "$FLOOD",
          "+\n\rFLOOD",
          "*-1\r\n",
          "*-2\r\n",
          "*0\r\n",
          "*2147483647\r\n",
          "*4294967297\r\n",
          "*9223372036854775807\r\n",
          "*1000000\r\nFLOOD",
          "*2\r\n$1\r\n0\r\n*0\r\n",
          "*2\r\n$1\r\n1\r\n*2\r\n:5\r\n*1\r\n$-1\r\n",
          "*2\r\n:0\r\n:0\r\n",
          "*1\r\n$5\r\nab\r\n",
          nested,
          nested + ":1\r\n",
          deep_and_wide,
          "-\r\n",
          "-ERR \x1b[2J\xff\r\n",
          "-MOVED\r\n",
          "-MOVED 1\r\n",
          "-MOVED 1 x\r\n",
          "-MOVED 1 x:99999\r\n",
          "-MOVED 1 " + std::string(3000, 'h') + ":1\r\n",
          "-ASK 1 :0\r\n",
          "-ASK\r\n",
          "-TRYAGAIN\r\n",
          "%1\r\n+a\r\n:1\r\n",
          "$2\r\nab\r\n:1\r\n+surplus\r\n"};
}

/// Each call ends with something, and never takes a lie for bytes.
void ask_everything(RedisStore& store) {
  std::vector<std::byte> to(100);
  CHECK_FALSE(store.get(asked_key, 0, to));
  static_cast<void>(store.size(asked_key));
  static_cast<void>(store.load(asked_key, 1 << 20));
  static_cast<void>(store.list(folder_a));
  static_cast<void>(store.put(asked_key, to));
  static_cast<void>(store.erase(asked_key));
}

TEST_CASE("whatever a server replies, a store says what is wrong and goes on") {
  KRUL_NEEDS_REDIS();
  std::atomic<bool> is_cluster_asked = false;
  for (const std::string& strange : strange_replies()) {
    INFO(strange.substr(0, 100));
    HostileServer server([&](std::string_view request) {
      return request.find("CLUSTER") != std::string_view::npos && !is_cluster_asked ? "-ERR no cluster\r\n" : strange;
    });
    // Where the machine is busy, a server that says something may be late as well.
    const auto patience = std::chrono::milliseconds(10);
    if (auto store = RedisStore::open(server.options(patience)))
      ask_everything(*store);
    else
      CHECK(store.error().code == ErrorCode::deadline);
    // Nor is what it says about a cluster believed.
    is_cluster_asked = true;
    if (auto other = RedisStore::open(server.options(patience))) ask_everything(*other);
    is_cluster_asked = false;
  }
}

TEST_CASE("keys of a server without end are not read without end") {
  KRUL_NEEDS_REDIS();
  for (const std::string reply : {"*2\r\n$1\r\n0\r\n:1\r\n", "*2\r\n$1\r\n0\r\n*1\r\n*0\r\n",
                                  "*3\r\n$1\r\n0\r\n*0\r\n*0\r\n", "$1\r\n0\r\n", "*2\r\n$1\r\n0\r\n*2000000\r\n"}) {
    HostileServer server([&](std::string_view request) {
      return request.find("CLUSTER") != std::string_view::npos ? "-ERR no cluster\r\n" : reply;
    });
    auto store = RedisStore::open(server.options(std::chrono::seconds(20))).value();
    const auto folders = store.list("");
    if (folders) CHECK(folders->empty());
  }
}

TEST_CASE("of ranges of slots that overlap those count that come first, however many there are") {
  KRUL_NEEDS_REDIS();
  std::atomic<int> own_port = 0;
  HostileServer server([&](std::string_view request) -> std::string {
    if (request.find("CLUSTER") == std::string_view::npos) return "$42\r\n1500 1024 " + std::string(32, 'a') + "\r\n";
    const auto all_slots = [](int port) {
      return "*3\r\n:0\r\n:16383\r\n*2\r\n$0\r\n\r\n:" + std::to_string(port) + "\r\n";
    };
    std::string reply = "*1001\r\n" + all_slots(own_port);
    for (int i = 0; i < 1000; ++i) reply += all_slots(1);  // where nobody is
    return reply;
  });
  own_port = server.port();
  auto store = RedisStore::open(server.options(std::chrono::seconds(20))).value();
  CHECK(store.size(asked_key) == 1500);
}

TEST_CASE("who is sent elsewhere over its only connection asks over it who is responsible") {
  KRUL_NEEDS_REDIS();
  std::atomic<int> own_port = 0, asked = 0, sent_on = 0;
  HostileServer server([&](std::string_view request) -> std::string {
    if (request.find("CLUSTER") != std::string_view::npos) return ++asked, "-ERR no cluster\r\n";
    if (sent_on++ == 0) return "-MOVED 1 127.0.0.1:" + std::to_string(own_port) + "\r\n";
    return "$42\r\n1500 1024 " + std::string(32, 'a') + "\r\n";
  });
  own_port = server.port();
  auto options = server.options(std::chrono::seconds(20));
  options.connections = 1;
  auto store = RedisStore::open(options).value();
  CHECK(store.size(asked_key) == 1500);
  CHECK(asked == 2);
}

/// A server of one object, which answers each read of it as it is told.
class AnswersReads {
 public:
  /// @param entry  what the index says of the object
  explicit AnswersReads(std::string entry)
      : entry_(std::move(entry)), server_([this](std::string_view request) { return answer(request); }) {}

  void answer_with(std::string reply) {
    const std::lock_guard guard(mutex_);
    reply_ = std::move(reply);
  }
  [[nodiscard]] RedisStoreOptions options() const { return server_.options(std::chrono::seconds(20)); }
  [[nodiscard]] std::size_t flooded() const { return server_.flooded(); }

 private:
  [[nodiscard]] std::string answer(std::string_view request) {
    if (request.find("CLUSTER") != std::string_view::npos) return "-ERR no cluster\r\n";
    if (request.find("HGET") != std::string_view::npos)
      return "$" + std::to_string(entry_.size()) + "\r\n" + entry_ + "\r\n";
    const std::lock_guard guard(mutex_);
    return reply_;
  }

  std::string entry_;
  std::mutex mutex_;
  std::string reply_;
  HostileServer server_;
};

TEST_CASE("a value that is longer than what was asked for ends the connection") {
  KRUL_NEEDS_REDIS();
  AnswersReads server("200 4096 " + std::string(32, 'a'));
  auto store = RedisStore::open(server.options()).value();
  std::vector<std::byte> to(101, std::byte{9});
  const auto room = std::span(to).first(100);
  server.answer_with("$101\r\n" + std::string(101, 'b') + "\r\n");
  const Status too_long = store.get(asked_key, 0, room);
  REQUIRE_FALSE(too_long);
  CHECK(too_long.error().code == ErrorCode::io);
  CHECK(too_long.error().message.find("larger") != std::string::npos);
  CHECK(to.back() == std::byte{9});
  server.answer_with("$100\r\n" + std::string(100, 'b') + "\r\n");
  REQUIRE(store.get(asked_key, 0, room));
  CHECK(to.front() == std::byte{'b'});
  server.answer_with("$99\r\n" + std::string(99, 'b') + "\r\n");
  CHECK(store.get(asked_key, 0, room).error().code == ErrorCode::truncated);
  server.answer_with("$100\r\n" + std::string(100, 'b') + "\r\n:1\r\n");  // and something that nobody asked for
  REQUIRE(store.get(asked_key, 0, room));
  server.answer_with("$100\r\n" + std::string(100, 'c') + "\r\n");
  REQUIRE(store.get(asked_key, 0, room));
  CHECK(to.front() == std::byte{'c'});
  server.answer_with("$1000000000\r\nFLOOD");
  const std::size_t before = server.flooded();
  CHECK(store.get(asked_key, 0, room).error().code == ErrorCode::io);
  CHECK(server.flooded() - before < std::size_t{64} << 20);
  server.answer_with(":100\r\n");
  CHECK(store.get(asked_key, 0, room).error().code == ErrorCode::corrupt);
}

TEST_CASE("what a server said wrongly of an object is asked again") {
  KRUL_NEEDS_REDIS();
  std::atomic<bool> is_lying = true;
  const std::string first_part = "$1024\r\n" + std::string(1024, 'b') + "\r\n";
  const std::string second_part = "$476\r\n" + std::string(476, 'b') + "\r\n";
  HostileServer server([&](std::string_view request) -> std::string {
    if (request.find("CLUSTER") != std::string_view::npos) return "-ERR no cluster\r\n";
    const std::string entry = (is_lying ? "1500 1500 " : "1500 1024 ") + std::string(32, 'a');
    if (request.find("HGET") != std::string_view::npos) return "$42\r\n" + entry + "\r\n";
    return is_lying ? first_part : first_part + second_part;
  });
  auto store = RedisStore::open(server.options(std::chrono::seconds(20))).value();
  std::vector<std::byte> to(1500);
  CHECK(store.get(asked_key, 0, to).error().code == ErrorCode::truncated);
  is_lying = false;
  REQUIRE(store.get(asked_key, 0, to));
  CHECK(to.back() == std::byte{'b'});
}

TEST_CASE("a long value that comes in pieces, or not at all, is taken for what it is") {
  KRUL_NEEDS_REDIS();
  const std::size_t size = 200'000;
  const std::string bytes(size, 'b');
  AnswersReads server(std::to_string(size) + " 524288 " + std::string(32, 'a'));
  auto store = RedisStore::open(server.options()).value();
  const auto ends_with = [&](const std::string& reply) {
    server.answer_with(reply);
    std::vector<std::byte> to(size);
    const Status status = store.get(asked_key, 0, to);
    if (status) CHECK(std::all_of(to.begin(), to.end(), [](std::byte byte) { return byte == std::byte{'b'}; }));
    return status ? std::string("read") : std::string(name(status.error().code));
  };
  const std::string length = std::to_string(size);
  CHECK(ends_with("$" + length + "\r\n" + bytes + "\r\n") == "read");
  CHECK(ends_with("$" + length + "\r\n" + bytes + "\r\n:1\r\n") == "read");
  CHECK(ends_with("$" + length + "\r\n" + bytes + "\r\n") == "read");
  CHECK(ends_with("$199999\r\n" + bytes.substr(1) + "\r\n") == "truncated");
  CHECK(ends_with("$200001\r\n" + bytes + "b\r\n") == "io");
  CHECK(ends_with("$0\r\n\r\n") == "not_found");
  CHECK(ends_with("$-1\r\n") == "not_found");
  CHECK(ends_with("-OOM no\r\n") == "no_space");
  CHECK(ends_with(":" + length + "\r\n") == "corrupt");
  CHECK(ends_with("*1\r\n$" + length + "\r\n" + bytes + "\r\n") == "io");
}

}  // namespace
}  // namespace krul
