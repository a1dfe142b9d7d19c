#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "krul/core/clock.hpp"
#include "krul/core/error.hpp"

namespace krul {

/// Where a RedisStore keeps its objects, and how it asks for them.
struct RedisStoreOptions {
  std::string host = "127.0.0.1";  ///< of the server, or of any node of a cluster: it names the others
  int port = 6379;
  std::string user = {};                                ///< none: the server's default user
  std::string password = {};                            ///< none: the server asks for none
  int database = 0;                                     ///< a cluster has only this one
  std::string prefix = "krul";                          ///< of all keys: 1 to 64 of [A-Za-z0-9._:-]
  std::size_t largest_value = std::size_t{4} << 20;     ///< bytes, 1 KiB to 512 MiB; larger objects lie in parts
  std::size_t connections = 4;                          ///< to each server, at most; shared by all threads
  Duration connect_timeout = std::chrono::seconds(2);   ///< for each address of a host
  Duration request_timeout = std::chrono::seconds(10);  ///< a server that is silent for so long is given up
  std::optional<Duration> expiry = {};                  ///< a folder goes so long after its last put; none: never
  Duration lock_time = std::chrono::seconds(60);        ///< who neither puts nor erases for so long may lose a lock

  /// @return invalid_argument naming what cannot be meant
  [[nodiscard]] Status check() const;
};

/// Options from redis://[user[:password]@]host[:port][/database][?name=value&...] with the names prefix, expiry_s,
/// connections, connect_timeout_s, request_timeout_s, lock_s and largest_value. What is percent-encoded is decoded; an
/// IPv6 address stands in brackets. A password without a user is written redis://:password@host.
/// @return invalid_argument saying what is wrong, never with the password in it; unsupported for rediss://, as
///         hiredis 0.14 has no TLS
[[nodiscard]] Result<RedisStoreOptions> parse_redis_url(std::string_view url);

}  // namespace krul
