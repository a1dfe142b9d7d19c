#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "answer.hpp"
#include "krul/s3/s3_store.hpp"

namespace krul::s3 {

/// One request. Nothing in it needs escaping but the values of the query.
struct Request {
  std::string method = "GET";
  std::string key = {};                                               ///< below the bucket; empty: the bucket itself
  std::vector<std::pair<std::string, std::string>> query = {};        ///< sorted by name
  std::vector<std::string> headers = {};                              ///< "Name: value"
  std::span<const std::byte> body = {};                               ///< of PUT and POST
  std::optional<std::pair<std::uint64_t, std::uint64_t>> range = {};  ///< first byte, count
};

/// A request that is made until it has an answer, and what came of it.
struct Transfer {
  std::string action;                ///< for sentences: "read object ..."
  std::function<Request()> request;  ///< asked for each attempt
  /// Takes bytes of a success; false: no more. None: they are kept in the answer.
  std::function<bool(const Answer&, std::span<const std::byte>)> take = {};
  /// Whether what came is all that was asked for; false: it is asked for again. None: it always is.
  std::function<bool(const Answer&)> whole = {};
  std::uint64_t most = 1U << 20;  ///< bytes that are kept in the answer

  Answer answer = {};  ///< the last one
  Status status = {};
  unsigned attempts = 0;
  bool ended = false;
  TimePoint began = {}, next = {};  ///< of the first attempt, and not before which the next one begins
};

/// Makes requests, signed and with patience. May be used by several threads at once.
class Client {
 public:
  explicit Client(const S3StoreOptions& options);
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  ~Client();

  /// Makes all, so many at once as there are connections; returns when all have ended. `meanwhile` is called now and
  /// then between, and once at the end.
  void run(std::span<Transfer> transfers, const RequestLimits& limits = {},
           const std::function<void()>& meanwhile = {});
  /// The same for one.
  void run(Transfer& transfer) { run({&transfer, 1}); }

  [[nodiscard]] const S3StoreOptions& options() const noexcept { return options_; }
  [[nodiscard]] TimePoint now() const { return options_.sources.now(); }
  /// Seconds since 1970, as the server told them last.
  [[nodiscard]] std::int64_t server_unix_s() const;

 private:
  class Session;
  class Loop;
  void took(const Answer& answer);

  S3StoreOptions options_;
  std::string server_;  // "https://host[:port]", with the bucket's name in it unless that is in the path
  std::string path_;    // of the bucket: "/" or "/bucket/"
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<Session>> idle_;  // with their open connections
  std::optional<std::int64_t> server_ahead_s_;  // of options_.sources.now()
  std::int64_t machine_ahead_s_ = 0;            // of the server, by this machine's calendar clock
};

}  // namespace krul::s3
