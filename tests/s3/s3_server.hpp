#pragma once

#include <doctest/doctest.h>
#include <sys/types.h>

#include <cstddef>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "krul/core/clock.hpp"
#include "krul/s3/s3_store.hpp"

namespace krul::test {

/// Moto's S3 server behind breaking_proxy.py, which says what can be commanded. One for the whole program.
class S3Server {
 public:
  /// The running one; null where there is no Python with moto, and then the test says so.
  static S3Server* running();

  ~S3Server();
  S3Server(const S3Server&) = delete;
  S3Server& operator=(const S3Server&) = delete;

  nlohmann::json command(const nlohmann::json& command);
  /// Requests since the last time, by method; "broken" is how many of them were.
  nlohmann::json count() { return command({{"count", true}}); }

  /// For a store under a prefix of its own, which nobody else has used. It waits by a clock that moves when it sleeps.
  S3StoreOptions options();
  [[nodiscard]] const ManualClock& clock() const { return clock_; }

 private:
  S3Server() = default;
  std::string start();
  std::string read_line();

  ManualClock clock_;
  pid_t child_ = -1;
  int to_child_ = -1, from_child_ = -1;
  int port_ = 0;
  int prefixes_ = 0;
};

/// A server that breaks nothing before and after a test.
class CalmServer {
 public:
  CalmServer() : server_(S3Server::running()) { calm(); }
  CalmServer(const CalmServer&) = delete;
  CalmServer& operator=(const CalmServer&) = delete;
  ~CalmServer() { calm(); }
  explicit operator bool() const noexcept { return server_ != nullptr; }
  S3Server* operator->() const noexcept { return server_; }

 private:
  void calm() {
    if (!server_) return;
    server_->command({{"calm", true}});
    server_->count();
  }
  S3Server* server_;
};

inline S3Store open_s3(const S3StoreOptions& options) {
  return or_throw(S3Store::open(options));
}

}  // namespace krul::test
