#include "krul/redis/redis_options.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <functional>
#include <string>

#include "krul/redis/redis_store.hpp"

namespace krul {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST_CASE("a Redis address sets what it names, and nothing else") {
  const auto plain = parse_redis_url("redis://cache.example").value();
  CHECK(plain.host == "cache.example");
  CHECK(plain.port == 6379);
  CHECK(plain.user.empty());
  CHECK(plain.password.empty());
  CHECK(plain.database == 0);
  CHECK(plain.prefix == "krul");
  CHECK_FALSE(plain.expiry);
  const auto full = parse_redis_url(
                        "redis://me:p%40ss%3a%25@10.0.0.1:7000/5?prefix=mine&expiry_s=3600.5&connections=9&"
                        "connect_timeout_s=1&request_timeout_s=0.25&lock_s=30&largest_value=1048576")
                        .value();
  CHECK(full.host == "10.0.0.1");
  CHECK(full.port == 7000);
  CHECK(full.user == "me");
  CHECK(full.password == "p@ss:%");
  CHECK(full.database == 5);
  CHECK(full.prefix == "mine");
  CHECK(full.expiry == milliseconds(3'600'500));
  CHECK(full.connections == 9);
  CHECK(full.connect_timeout == seconds(1));
  CHECK(full.request_timeout == milliseconds(250));
  CHECK(full.lock_time == seconds(30));
  CHECK(full.largest_value == 1 << 20);
}

TEST_CASE("hosts, passwords and databases in all their forms") {
  CHECK(parse_redis_url("redis://:secret@host")->password == "secret");
  CHECK(parse_redis_url("redis://:secret@host")->user.empty());
  CHECK(parse_redis_url("redis://u:a@b@host")->password == "a@b");
  CHECK(parse_redis_url("redis://u:a/b@host/2")->password == "a/b");
  CHECK(parse_redis_url("redis://u:a:b@host")->password == "a:b");
  CHECK(parse_redis_url("redis://[::1]:7001/1")->host == "::1");
  CHECK(parse_redis_url("redis://[::1]:7001/1")->port == 7001);
  CHECK(parse_redis_url("redis://[::1]")->host == "::1");
  CHECK(parse_redis_url("redis://host/")->database == 0);
  CHECK(parse_redis_url("redis://host?prefix=a")->prefix == "a");
  CHECK(parse_redis_url("redis://host/?")->host == "host");
}

TEST_CASE("what is no Redis address is refused, without a word of the password") {
  for (const char* url : {"",
                          "redis:/host",
                          "http://host",
                          "host",
                          "redis://",
                          "redis://:6379",
                          "redis://host:",
                          "redis://host:0",
                          "redis://host:65536",
                          "redis://host:6379x",
                          "redis://host:-1",
                          "redis://host/x",
                          "redis://host/-1",
                          "redis://host/1/2",
                          "redis://host/99999999999",
                          "redis://secret@host",
                          "redis://secret:@host",
                          "redis://u:secret%2@host",
                          "redis://u:secret%zz@host",
                          "redis://u:secret%@host",
                          "redis://[::1",
                          "redis://[::1]x",
                          "redis://[::1]:",
                          "redis://host?nothing=1",
                          "redis://host?prefix",
                          "redis://host?prefix=",
                          "redis://host?prefix=a%7bb",
                          "redis://host?prefix=a*",
                          "redis://host?expiry_s=0",
                          "redis://host?expiry_s=-1",
                          "redis://host?expiry_s=nan",
                          "redis://host?expiry_s=inf",
                          "redis://host?expiry_s=1e30",
                          "redis://host?expiry_s=",
                          "redis://host?connections=0",
                          "redis://host?connections=1025",
                          "redis://host?largest_value=1023",
                          "redis://host?largest_value=536870913",
                          "redis://host?lock_s=1s",
                          "redis://u:sec?secret@host",
                          "redis://:a&secret?secret=secret@host"}) {
    const auto options = parse_redis_url(url);
    REQUIRE_MESSAGE(!options, std::string(url));
    CHECK_MESSAGE(options.error().code == ErrorCode::invalid_argument, std::string(url));
    CHECK_MESSAGE(options.error().message.find("secret") == std::string::npos, options.error().message);
  }
  const auto with_tls = parse_redis_url("rediss://host");
  REQUIRE_FALSE(with_tls);
  CHECK(with_tls.error().code == ErrorCode::unsupported);
  CHECK(with_tls.error().message.find("stunnel") != std::string::npos);
}

TEST_CASE("options that cannot be meant open no store") {
  const std::function<void(RedisStoreOptions&)> wrong[] = {
      [](RedisStoreOptions& options) { options.host.clear(); },
      [](RedisStoreOptions& options) { options.host = std::string("a\0b", 3); },
      [](RedisStoreOptions& options) { options.port = 0; },
      [](RedisStoreOptions& options) { options.port = 65536; },
      [](RedisStoreOptions& options) { options.user = "somebody"; },
      [](RedisStoreOptions& options) { options.database = -1; },
      [](RedisStoreOptions& options) { options.prefix.clear(); },
      [](RedisStoreOptions& options) { options.prefix = "a{b"; },
      [](RedisStoreOptions& options) { options.prefix = std::string(65, 'a'); },
      [](RedisStoreOptions& options) { options.largest_value = 1023; },
      [](RedisStoreOptions& options) { options.connections = 0; },
      [](RedisStoreOptions& options) { options.connect_timeout = Duration(0); },
      [](RedisStoreOptions& options) { options.request_timeout = Duration::max(); },
      [](RedisStoreOptions& options) { options.expiry = seconds(-1); },
      [](RedisStoreOptions& options) { options.lock_time = Duration(1); },
  };
  CHECK(RedisStoreOptions().check());
  for (std::size_t i = 0; i < std::size(wrong); ++i) {
    RedisStoreOptions options;
    wrong[i](options);
    INFO(i);
    const auto store = RedisStore::open(options);
    REQUIRE_FALSE(store);
    CHECK(store.error().code == ErrorCode::invalid_argument);
  }
}

TEST_CASE("without hiredis a store says what to install") {
  // A port on which nothing listens: with hiredis there is no connection.
  const auto store = RedisStore::open({.port = 1});
  REQUIRE_FALSE(store);
  if (store.error().code == ErrorCode::unsupported) {
    CHECK(store.error().message.find("libhiredis-dev") != std::string::npos);
    CHECK(store.error().message.find("KRUL_WITH_REDIS") != std::string::npos);
  } else {
    CHECK(store.error().code == ErrorCode::io);
    CHECK(store.error().message.find("127.0.0.1:1") != std::string::npos);
  }
}

}  // namespace
}  // namespace krul
