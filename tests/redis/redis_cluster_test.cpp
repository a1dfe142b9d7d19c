#include <doctest/doctest.h>

#include <array>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "redis_server.hpp"
#include "unit/store/store_test_support.hpp"

namespace krul {
namespace {

using test::RedisServer;
using test::Socket;
using test::some_bytes;

/// Three masters, each with a third of the slots.
struct Cluster {
  std::vector<std::unique_ptr<RedisServer>> nodes;
  std::vector<std::string> ids;

  Cluster() {
    std::vector<int> buses;
    for (int i = 0; i < 3; ++i) {
      buses.push_back(Socket::listening().port());
      nodes.push_back(std::make_unique<RedisServer>(
          std::vector<std::string>{"--cluster-enabled", "yes", "--cluster-port", std::to_string(buses.back()),
                                   "--cluster-node-timeout", "2000", "--cluster-require-full-coverage", "no"}));
      ids.push_back(words_of(nodes.back()->ask({"CLUSTER", "MYID"})).back());
      nodes.back()->ask({"CLUSTER", "SET-CONFIG-EPOCH", std::to_string(i + 1)});
      nodes.back()->ask(
          {"CLUSTER", "ADDSLOTSRANGE", std::to_string(i * 5461), std::to_string(i == 2 ? 16383 : i * 5461 + 5460)});
    }
    for (int i = 1; i < 3; ++i)
      nodes[0]->ask({"CLUSTER", "MEET", "127.0.0.1", std::to_string(nodes[static_cast<std::size_t>(i)]->port()),
                     std::to_string(buses[static_cast<std::size_t>(i)])});
    for (int i = 0; i < 3000; ++i) {
      bool is_ready = true;
      for (const auto& node : nodes) {
        const std::string info = node->ask({"CLUSTER", "INFO"});
        is_ready = is_ready && info.find("cluster_state:ok") != std::string::npos &&
                   info.find("cluster_slots_assigned:16384") != std::string::npos;
      }
      if (is_ready) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    throw std::runtime_error("the cluster does not come together");
  }
  /// Lines of a reply that are no lengths.
  static std::vector<std::string> words_of(const std::string& reply) {
    std::vector<std::string> words;
    for (std::size_t at = 0, end = 0; (end = reply.find("\r\n", at)) != std::string::npos; at = end + 2)
      if (const std::string line = reply.substr(at, end - at); line[0] != '$' && line[0] != '*') words.push_back(line);
    return words;
  }
  [[nodiscard]] int slot(const std::string& folder) const {
    return std::stoi(nodes[0]->ask({"CLUSTER", "KEYSLOT", folder}).substr(1));
  }
  [[nodiscard]] std::size_t owner(const std::string& folder) const {
    return std::min<std::size_t>(static_cast<std::size_t>(slot(folder)) / 5461, 2);
  }
  void begin_move(const std::string& folder, std::size_t from, std::size_t to) {
    const std::string slot_text = std::to_string(slot(folder));
    nodes[to]->ask({"CLUSTER", "SETSLOT", slot_text, "IMPORTING", ids[from]});
    nodes[from]->ask({"CLUSTER", "SETSLOT", slot_text, "MIGRATING", ids[to]});
  }
  void move_keys(const std::string& pattern, std::size_t from, std::size_t to) {
    for (const std::string& key : words_of(nodes[from]->ask({"KEYS", pattern})))
      nodes[from]->ask({"MIGRATE", "127.0.0.1", std::to_string(nodes[to]->port()), key, "0", "5000"});
  }
  void end_move(const std::string& folder, std::size_t from, std::size_t to) {
    for (const std::size_t node : {to, from})
      nodes[node]->ask({"CLUSTER", "SETSLOT", std::to_string(slot(folder)), "NODE", ids[to]});
  }
};

TEST_CASE("a cluster keeps each conversation on one node, and is followed when it moves") {
  KRUL_NEEDS_REDIS();
  Cluster cluster;
  RedisStoreOptions options = cluster.nodes[0]->options();
  options.request_timeout = std::chrono::seconds(30);
  auto store = RedisStore::open(options).value();

  // Folders on all nodes, whichever was named.
  std::vector<std::string> folders, keys;
  std::array<int, 3> of_node{};
  for (const char digit : std::string("0123456789abcdef")) {
    folders.push_back(std::string(28, digit) + "89ab");
    keys.push_back(folders.back() + "/object");
    ++of_node[cluster.owner(folders.back())];
    REQUIRE(store.put(keys.back(), some_bytes(50'000 + folders.size(), 1)));
  }
  for (const int count : of_node) CHECK(count > 0);
  CHECK(store.list("") == folders);
  const auto sizes = store.sizes(keys);
  for (std::size_t i = 0; i < keys.size(); ++i) CHECK(sizes[i] == 50'001 + i);
  std::vector<std::vector<std::byte>> to(keys.size(), std::vector<std::byte>(50'001));
  std::vector<RangedRead> reads;
  for (std::size_t i = 0; i < keys.size(); ++i) reads.push_back({keys[i], 0, to[i]});
  std::size_t read = 0;
  store.get_together(reads, {}, [&](std::size_t, const Status& status) { read += status ? 1 : 0; });
  CHECK(read == keys.size());
  for (const auto& bytes : to) CHECK(bytes == some_bytes(50'001, 1));

  // A slot on its way to another node, half of its keys there.
  const std::string folder = folders[3], key = keys[3];
  const std::size_t from = cluster.owner(folder), there = (from + 1) % 3;
  const auto bytes = some_bytes(50'004, 1);
  auto lock = store.lock(folder);
  REQUIRE(lock);
  cluster.begin_move(folder, from, there);
  CHECK(store.load(key, 1 << 20) == bytes);
  cluster.move_keys("krul:{" + folder + "}:part:*:1", from, there);
  CHECK(store.load(key, 1 << 20) == bytes);
  cluster.move_keys("krul:{" + folder + "}:objects", from, there);
  CHECK(store.load(key, 1 << 20) == bytes);
  // What needs keys that are apart waits until they are together.
  Status put;
  {
    const std::jthread writing([&] { put = store.put(key, some_bytes(60'000, 2)); });
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    cluster.move_keys("krul:{" + folder + "}:*", from, there);
  }
  REQUIRE_MESSAGE(put, put.error().message);
  CHECK(store.load(key, 1 << 20) == some_bytes(60'000, 2));
  cluster.end_move(folder, from, there);
  CHECK(store.load(key, 1 << 20) == some_bytes(60'000, 2));
  REQUIRE(store.put(key, some_bytes(30'000, 3)));
  { const auto dead = std::move(lock); }
  CHECK(store.lock(folder));
  // Also for somebody who had known it before, and for who comes new.
  CHECK(RedisStore::open(options)->load(key, 1 << 20) == some_bytes(30'000, 3));
  CHECK(store.list("") == folders);

  // Without one node, the others' conversations are there.
  std::vector<std::size_t> owners;
  for (const std::string& each : folders) owners.push_back(cluster.owner(each));
  const std::size_t dead = (there + 1) % 3;
  cluster.nodes[dead]->kill();
  for (std::size_t i = 0; i < folders.size(); ++i) {
    if (i == 3) continue;
    const auto size = store.size(keys[i]);
    CHECK(size.has_value() == (owners[i] != dead));
    if (!size) CHECK(size.error().code == ErrorCode::io);
  }
}

}  // namespace
}  // namespace krul
