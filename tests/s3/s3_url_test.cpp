#include "krul/s3/s3_url.hpp"

#include <doctest/doctest.h>

#include <cstdlib>
#include <map>
#include <string>

namespace krul::test {
namespace {

Environment environment_of(std::map<std::string, std::string> variables) {
  return [variables = std::move(variables)](const std::string& name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    if (found == variables.end()) return std::nullopt;
    return found->second;
  };
}

}  // namespace

TEST_CASE("parse_s3_url: what stands in it goes before what the environment says") {
  const auto environment = environment_of({{"AWS_ACCESS_KEY_ID", "AK"},
                                           {"AWS_SECRET_ACCESS_KEY", "s/e:c+ret"},
                                           {"AWS_SESSION_TOKEN", "token"},
                                           {"AWS_DEFAULT_REGION", "us-west-1"},
                                           {"AWS_REGION", "eu-west-1"},
                                           {"AWS_CA_BUNDLE", "/ca.pem"},
                                           {"AWS_ENDPOINT_URL", "http://localhost:9000/"}});
  const auto options = parse_s3_url("s3://bucket-1/a/b.c/", environment).value();
  CHECK(options.bucket == "bucket-1");
  CHECK(options.prefix == "a/b.c");
  CHECK(options.access_key == "AK");
  CHECK(options.secret_key == "s/e:c+ret");
  CHECK(options.session_token == "token");
  CHECK(options.region == "eu-west-1");
  CHECK(options.ca_file == "/ca.pem");
  CHECK(options.endpoint == "http://localhost:9000");
  CHECK(options.path_style);

  const auto own = parse_s3_url(
      "s3://bucket-1?region=eu-test-1&endpoint=https%3A%2F%2Fs3.example.org%3a443&path_style=0&connections=3",
      environment);
  CHECK(own.value().prefix.empty());
  CHECK(own->region == "eu-test-1");
  CHECK(own->endpoint == "https://s3.example.org:443");
  CHECK_FALSE(own->path_style);
  CHECK(own->connections == 3);

  const auto bare = parse_s3_url("s3://bucket-1", environment_of({}));
  CHECK(bare.value().endpoint.empty());
  CHECK_FALSE(bare->path_style);
  CHECK(bare->region == "us-east-1");
  CHECK(bare->access_key.empty());
}

TEST_CASE("parse_s3_url: what cannot be meant is refused") {
  for (const char* const url : {"",
                                "http://bucket-1",
                                "s3://",
                                "s3://b",
                                "s3://Bucket",
                                "s3://a-bucket-whose-name-has-more-than-the-sixty-three-characters-of-a-name",
                                "s3://-bucket",
                                "s3://bucket-",
                                "s3://a..b",
                                "s3://bucket_1",
                                "s3://key:secret@bucket",
                                "s3://bucket-1//a",
                                "s3://bucket-1/a//b",
                                "s3://bucket-1/../b",
                                "s3://bucket-1/.",
                                "s3://bucket-1/%0d%0aHost:x",
                                "s3://bucket-1/%",
                                "s3://bucket-1/%4",
                                "s3://bucket-1/%zz",
                                "s3://bucket-1?path_style=2",
                                "s3://bucket-1?connections=x",
                                "s3://bucket-1?connections=0",
                                "s3://bucket-1?connections=3x",
                                "s3://bucket-1?region=%zz",
                                "s3://bucket-1?secret_key=x",
                                "s3://bucket-1?region",
                                "s3://bucket-1?region=EU",
                                "s3://bucket-1?=",
                                "s3://bucket-1?endpoint=ftp://host",
                                "s3://bucket-1?endpoint=http://",
                                "s3://bucket-1?endpoint=http://a@b",
                                "s3://bucket-1?endpoint=http://host/path"}) {
    CAPTURE(url);
    CHECK(parse_s3_url(url, environment_of({})).error().code == ErrorCode::invalid_argument);
  }
  CHECK(parse_s3_url("s3://bucket-1", environment_of({{"AWS_ACCESS_KEY_ID", "AK"}})).error().code ==
        ErrorCode::invalid_argument);
  CHECK(parse_s3_url("s3://bucket-1",
                     environment_of({{"AWS_ACCESS_KEY_ID", "AK"}, {"AWS_SECRET_ACCESS_KEY", "a\r\nX: b"}}))
            .error()
            .code == ErrorCode::invalid_argument);
}

TEST_CASE("check_s3_options: each limit") {
  S3StoreOptions options;
  options.bucket = "bucket-1";
  CHECK(check_s3_options(options));
  const auto refuses = [&](auto&& change) {
    S3StoreOptions changed = options;
    change(changed);
    return check_s3_options(changed).error().code == ErrorCode::invalid_argument;
  };
  CHECK(refuses([](S3StoreOptions& o) { o.part_bytes = (5U << 20) - 1; }));
  CHECK(refuses([](S3StoreOptions& o) { o.part_bytes = (1ULL << 30) + 1; }));
  CHECK(refuses([](S3StoreOptions& o) { o.access_key = "a b", o.secret_key = "b"; }));
  CHECK(refuses([](S3StoreOptions& o) { o.session_token = "a\x7f"; }));
  CHECK(refuses([](S3StoreOptions& o) { o.multipart_above = (5ULL << 30) + 1; }));
  CHECK(refuses([](S3StoreOptions& o) { o.read_bytes = 0; }));
  CHECK(refuses([](S3StoreOptions& o) { o.connections = 257; }));
  CHECK(refuses([](S3StoreOptions& o) { o.lock_lifetime = std::chrono::seconds(2); }));
  CHECK(refuses([](S3StoreOptions& o) { o.idle_timeout = {}; }));
  CHECK(refuses([](S3StoreOptions& o) { o.connect_timeout = {}; }));
  CHECK(refuses([](S3StoreOptions& o) { o.prefix = std::string(513, 'a'); }));
}

TEST_CASE("process_environment: a variable that is not set or empty is none") {
  CHECK_FALSE(process_environment("KRUL_NO_SUCH_VARIABLE"));
  REQUIRE(::setenv("KRUL_EMPTY_VARIABLE", "", 1) == 0);
  CHECK_FALSE(process_environment("KRUL_EMPTY_VARIABLE"));
  CHECK(process_environment("PATH"));
}

}  // namespace krul::test
