#include <sstream>

#include "krul/store/conformance.hpp"
#include "s3_server.hpp"

namespace krul::test {
namespace {

/// Stores under prefixes of their own; the second handle has connections, locks and all else of its own.
struct S3Make {
  S3Server& server;
  S3StoreOptions options = {};

  S3Store fresh() {
    options = server.options();
    options.part_bytes = 5U << 20;
    options.multipart_above = 5U << 20;
    return again();
  }
  S3Store again() { return open_s3(options); }
};

}  // namespace

TEST_CASE("S3Store keeps the contract of stores") {
  const CalmServer server;
  if (!server) return;
  S3Make make{*S3Server::running()};
  const ConformanceReport report = check_store(make, {.objects = 20, .rounds = 4});
  std::ostringstream told;
  told << report;
  INFO(told.str());
  CHECK(report.passed());
}

}  // namespace krul::test
