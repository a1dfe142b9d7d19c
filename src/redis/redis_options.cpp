#include "krul/redis/redis_options.hpp"

#include <charconv>
#include <cstdint>
#include <limits>
#include <system_error>

#include "krul/core/url_text.hpp"

namespace krul {
namespace redis {

// None repeats what was typed: it may be part of a password.
tl::unexpected<Error> wrong_option(std::string message) {
  return fail(ErrorCode::invalid_argument, std::move(message));
}

template <class Number>
Result<Number> number_of(std::string_view text, std::string_view what, Number least, Number most) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc{} && end == text.data() + text.size() && number >= least && number <= most) return number;
  return wrong_option("the Redis address's " + std::string(what) + " has to be a number of at least " +
                      std::to_string(least) + " and at most " + std::to_string(most));
}

/// Seconds, with or without a fraction.
Result<Duration> seconds_of(std::string_view text, std::string_view what) {
  const auto number = number_of<double>(text, what, 0.001, 1e9);
  if (!number) return propagate(number);
  return duration_of(*number);
}

Result<std::string> decoded_part(std::string_view text) {
  auto decoded = percent_decoded(text);
  if (!decoded)
    return wrong_option("a percent sign of the Redis address does not stand before two hexadecimal digits; write %25");
  return std::move(*decoded);
}

Status read_login(std::string_view login, RedisStoreOptions& options) {
  if (login.find(':') == std::string_view::npos)
    return wrong_option("the Redis address names a user without a password; write user:password@ or :password@");
  const auto user = decoded_part(cut_off(login, ':'));
  const auto password = decoded_part(login);
  if (!user) return propagate(user);
  if (!password) return propagate(password);
  options.user = *user;
  options.password = *password;
  return {};
}

Status read_host(std::string_view place, RedisStoreOptions& options) {
  const bool is_bracketed = place.starts_with('[');
  if (is_bracketed) {
    place.remove_prefix(1);
    if (place.find(']') == std::string_view::npos)
      return wrong_option("the Redis address has no ] after its IPv6 address");
    options.host = cut_off(place, ']');
    if (place.empty()) return {};
    if (!place.starts_with(':'))
      return wrong_option("the Redis address has something else than :port after its IPv6 address");
    place.remove_prefix(1);
  } else {
    const bool has_port = place.find(':') != std::string_view::npos;
    options.host = cut_off(place, ':');
    if (!has_port) return {};
  }
  const auto port = number_of<int>(place, "port", 1, 65535);
  if (!port) return propagate(port);
  options.port = *port;
  return {};
}

Status read_setting(std::string_view name, const std::string& value, RedisStoreOptions& options) {
  const auto take = [](auto result, auto& into) -> Status {
    if (!result) return propagate(result);
    into = *result;
    return {};
  };
  constexpr std::size_t most = std::numeric_limits<std::uint32_t>::max();
  if (name == "prefix") {
    options.prefix = value;
    return {};
  }
  if (name == "expiry_s") return take(seconds_of(value, name), options.expiry);
  if (name == "connections") return take(number_of<std::size_t>(value, name, 1, most), options.connections);
  if (name == "connect_timeout_s") return take(seconds_of(value, name), options.connect_timeout);
  if (name == "request_timeout_s") return take(seconds_of(value, name), options.request_timeout);
  if (name == "lock_s") return take(seconds_of(value, name), options.lock_time);
  if (name == "largest_value") return take(number_of<std::size_t>(value, name, 1, most), options.largest_value);
  return wrong_option(
      "of a Redis address only prefix, expiry_s, connections, connect_timeout_s, request_timeout_s, lock_s and "
      "largest_value can be set; what else belongs to a password has to be percent-encoded");
}

}  // namespace redis

Status RedisStoreOptions::check() const {
  using redis::wrong_option;
  if (host.empty() || host.find('\0') != std::string::npos)
    return wrong_option("the Redis store has no host; name one, as in redis://127.0.0.1:6379");
  if (port < 1 || port > 65535) return wrong_option("the port of the Redis server has to be 1 to 65535");
  if (!user.empty() && password.empty())
    return wrong_option("the Redis store has a user and no password; give both, or a password alone");
  if (database < 0) return wrong_option("the number of a Redis database is not negative");
  constexpr std::string_view allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:-";
  if (prefix.empty() || prefix.size() > 64 || prefix.find_first_not_of(allowed) != std::string::npos)
    return wrong_option("the prefix of Redis keys has to be 1 to 64 letters, digits or ._:-");
  if (largest_value < 1024 || largest_value > std::size_t{512} << 20)
    return wrong_option("the largest Redis value has to be 1 KiB to 512 MiB, not " + std::to_string(largest_value) +
                        " bytes; servers refuse larger ones");
  if (connections < 1 || connections > 1024) return wrong_option("there have to be 1 to 1024 Redis connections");
  // In whole milliseconds, and so that sums of them stay in range.
  for (const Duration time : {connect_timeout, request_timeout, lock_time, expiry.value_or(std::chrono::seconds(1))})
    if (time < std::chrono::milliseconds(1) || time > std::chrono::hours(24 * 365 * 20))
      return wrong_option("times of a Redis store have to be 1 ms to 20 years");
  return {};
}

Result<RedisStoreOptions> parse_redis_url(std::string_view url) {
  constexpr std::string_view scheme = "redis://";
  if (url.starts_with("rediss://"))
    return fail(ErrorCode::unsupported,
                "hiredis 0.14 has no TLS; connect through stunnel or a private network, with redis://");
  if (!url.starts_with(scheme))
    return redis::wrong_option("a Redis address begins with redis://, as in redis://127.0.0.1:6379");
  url.remove_prefix(scheme.size());
  RedisStoreOptions options;
  std::string_view settings = url;
  std::string_view place = cut_off(settings, '?');
  if (const std::size_t at = place.rfind('@'); at != std::string_view::npos) {
    if (const Status status = redis::read_login(place.substr(0, at), options); !status) return propagate(status);
    place.remove_prefix(at + 1);
  }
  std::string_view database = place;
  if (const Status status = redis::read_host(cut_off(database, '/'), options); !status) return propagate(status);
  if (!database.empty()) {
    const auto number = redis::number_of<int>(database, "database", 0, std::numeric_limits<int>::max());
    if (!number) return propagate(number);
    options.database = *number;
  }
  while (!settings.empty()) {
    std::string_view value = cut_off(settings, '&');
    const std::string_view name = cut_off(value, '=');
    const auto decoded = redis::decoded_part(value);
    if (!decoded) return propagate(decoded);
    if (const Status status = redis::read_setting(name, *decoded, options); !status) return propagate(status);
  }
  if (const Status status = options.check(); !status) return propagate(status);
  return options;
}

}  // namespace krul
