#include <doctest/doctest.h>

#include <string>

#include "krul/s3/s3_store.hpp"

namespace krul::test {

TEST_CASE("S3Store: built without libcurl, it says what to install and configure") {
  const auto store = S3Store::open({.bucket = "bucket-1"});
  CHECK(store.error().code == ErrorCode::unsupported);
  CHECK(store.error().message.find("libcurl4-openssl-dev") != std::string::npos);
  CHECK(store.error().message.find("KRUL_WITH_S3") != std::string::npos);
}

}  // namespace krul::test
