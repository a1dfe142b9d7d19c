#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "connection.hpp"
#include "krul/core/error.hpp"
#include "krul/store/ranged_reads.hpp"

namespace krul::redis {

/// The connections to one server: at most so many, and those that nobody uses wait here.
class Node {
 public:
  Node(Address address, const RedisStoreOptions& options) : address_(std::move(address)), options_(options) {
    idle_.reserve(options_.connections);  // so that giving one back cannot fail
  }

  [[nodiscard]] const Address& address() const noexcept { return address_; }

 private:
  friend class Taken;
  Address address_;
  RedisStoreOptions options_;
  std::mutex mutex_;
  std::condition_variable_any is_free_;
  std::vector<Connection> idle_;
  std::size_t used_ = 0;  ///< that are taken
};

/// A connection that the caller has to itself. It goes back when this dies, or is closed unless it was marked as clean.
class Taken {
 public:
  /// @return none if all are in use; else as Connection::open
  [[nodiscard]] static Result<std::optional<Taken>> at_once(const std::shared_ptr<Node>& node, TimePoint deadline);
  /// Waits until one is free: for request_timeout at most.
  [[nodiscard]] static Result<Taken> when_free(const std::shared_ptr<Node>& node, const RequestLimits& limits);

  Taken(Taken&& other) noexcept
      : node_(std::move(other.node_)), connection_(std::move(other.connection_)), is_clean_(other.is_clean_) {}
  Taken& operator=(Taken&&) = delete;
  ~Taken();

  [[nodiscard]] Connection& connection() { return *connection_; }
  [[nodiscard]] const std::shared_ptr<Node>& node() const noexcept { return node_; }
  /// Whether every reply that was asked for has come.
  void set_clean(bool is_clean) noexcept { is_clean_ = is_clean; }

 private:
  explicit Taken(std::shared_ptr<Node> node) : node_(std::move(node)) {}
  [[nodiscard]] static Result<Taken> opened(std::shared_ptr<Node> node, std::optional<Connection> idle,
                                            TimePoint deadline);

  std::shared_ptr<Node> node_;
  std::optional<Connection> connection_;
  bool is_clean_ = true;
};

/// The servers: one, or those of a cluster, by hash slot.
class Nodes {
 public:
  explicit Nodes(const RedisStoreOptions& options);

  /// Who is responsible for a slot, as far as is known.
  [[nodiscard]] std::shared_ptr<Node> of_slot(std::uint16_t slot);
  /// Where a reply that names another node for a slot sends to: "MOVED 3999 10.0.0.1:6381".
  [[nodiscard]] Result<std::shared_ptr<Node>> redirected(std::string_view reply, const Address& from);
  /// Enters that a slot has moved.
  void move_slot(std::uint16_t slot, std::shared_ptr<Node> to);
  /// All that are responsible for a slot.
  [[nodiscard]] std::vector<std::shared_ptr<Node>> masters();
  /// Asks the nodes that are known, one after the other, who is responsible for what.
  [[nodiscard]] Status discover();
  /// The same where there is a cluster. Nodes are left out all of whose connections are in use.
  void refresh();

 private:
  [[nodiscard]] std::shared_ptr<Node> node_at(const Address& address);  // under the mutex
  [[nodiscard]] Status ask(const std::shared_ptr<Node>& node);

  RedisStoreOptions options_;
  std::mutex mutex_;
  std::map<Address, std::shared_ptr<Node>> known_;
  std::shared_ptr<Node> first_;
  std::vector<std::shared_ptr<Node>> by_slot_;  ///< [16384], or none where there is no cluster
};

/// The hash slot of a folder: CRC-16 (XMODEM) of what stands between the braces of its keys, modulo 16384.
[[nodiscard]] std::uint16_t slot_of(std::string_view folder) noexcept;

}  // namespace krul::redis
