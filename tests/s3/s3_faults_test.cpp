#include <algorithm>
#include <vector>

#include "s3_server.hpp"
#include "unit/store/store_test_support.hpp"

namespace krul::test {

TEST_CASE("S3Store: what passes is tried again, and by the store's clock") {
  const CalmServer server;
  if (!server) return;
  S3Store store = open_s3(server->options());
  const std::string key = folder_a + "/seg-1";
  const auto bytes = some_bytes(100'000, 1);
  REQUIRE(store.put(key, bytes));
  const TimePoint before = server->clock().now();
  server->count();
  nlohmann::json fault = {{"times", 1}, {"match", "seg-1"}};
  Duration waited = std::chrono::milliseconds(50);
  SUBCASE("SlowDown") {
    fault.update({{"fault", "error"}, {"status", 503}, {"code", "SlowDown"}, {"times", 4}});
    waited = std::chrono::milliseconds(50 + 100 + 200 + 400);  // half of what the fourth wait may be
  }
  SUBCASE("429") {
    fault.update({{"fault", "error"}, {"status", 429}});
  }
  SUBCASE("500, 502, 504") {
    for (const int status : {500, 502, 504}) server->command({{"fault", "error"}, {"times", 1}, {"status", status}});
    fault["times"] = 0;
    waited = std::chrono::milliseconds(50 + 100 + 200);
  }
  SUBCASE("RequestTimeout") {
    fault.update({{"fault", "error"}, {"status", 400}, {"code", "RequestTimeout"}});
  }
  SUBCASE("a connection that is closed before the answer, which libcurl tries once by itself") {
    fault.update({{"fault", "refuse"}, {"times", 2}});
  }
  SUBCASE("an answer that is lost") {
    fault.update({{"fault", "forget"}, {"times", 2}});
  }
  SUBCASE("half an answer") {
    fault.update({{"fault", "cut"}});
  }
  const bool cut = fault.value("fault", "") == "cut";
  server->command(fault);
  CHECK(store.load(key, bytes.size()).value() == bytes);
  CHECK(seconds(server->clock().now() - before) == doctest::Approx(seconds(waited)));
  server->command(fault);
  std::vector<std::byte> part(5000);
  CHECK(store.get(key, 1000, part));
  CHECK(std::equal(part.begin(), part.end(), bytes.begin() + 1000));
  if (fault.value("code", "") == "RequestTimeout") return;  // which stands in the body, and a HEAD has none
  server->command(fault);
  CHECK(store.size(key).value() == bytes.size());
  if (!cut) server->command(fault);
  CHECK(store.put(key, bytes));
  CHECK(server->count()["broken"] > 0);
  if (!cut) server->command(fault);
  CHECK(store.erase(key));
}

TEST_CASE("S3Store: an answer that is shorter than the object, which is not, is asked for again") {
  const CalmServer server;
  if (!server) return;
  S3Store store = open_s3(server->options());
  const std::string key = folder_a + "/seg-1";
  const auto bytes = some_bytes(1000, 1);
  REQUIRE(store.put(key, bytes));
  std::vector<std::byte> part(400);
  server->command({{"fault", "short"}, {"times", 1}, {"match", "seg-1"}});
  CHECK(store.get(key, 600, part));
  CHECK(std::equal(part.begin(), part.end(), bytes.begin() + 600));
}

TEST_CASE("S3Store: reads that were done are not asked for again") {
  const CalmServer server;
  if (!server) return;
  S3Store store = open_s3(server->options());
  const std::string key = folder_a + "/seg-1";
  const auto bytes = some_bytes(400'000, 1);
  REQUIRE(store.put(key, bytes));
  std::vector<std::byte> room(bytes.size());
  std::vector<RangedRead> reads;
  for (std::size_t i = 0; i < 4; ++i)
    reads.push_back({key, i * 100'000, std::span(room).subspan(i * 100'000, 100'000)});
  std::vector<std::size_t> order;
  server->command({{"fault", "cut"}, {"times", 1}, {"match", "seg-1"}});
  store.get_together(reads, {}, [&](std::size_t i, const Status& status) {
    CHECK(status);
    order.push_back(i);
  });
  CHECK(order == std::vector<std::size_t>{0, 1, 2, 3});
  CHECK(room == bytes);
}

TEST_CASE("S3Store: what does not pass is told after the last attempt") {
  const CalmServer server;
  if (!server) return;
  S3StoreOptions options = server->options();
  S3Store store = open_s3(options);
  const std::string key = folder_a + "/seg-1";
  REQUIRE(store.put(key, some_bytes(10, 1)));
  server->count();
  SUBCASE("busy server") {
    server->command({{"share", 1.0}});
    const Error error = store.size(key).error();
    CHECK(error.code == ErrorCode::io);
    CHECK(server->count()["counts"]["HEAD"] == options.retries.most + 1);
  }
  SUBCASE("no more attempts once the time for all of them is over") {
    options.retries.in_all = std::chrono::milliseconds(120);
    S3Store hasty = open_s3(options);
    server->count();
    server->command({{"share", 1.0}});
    CHECK(hasty.list(folder_a).error().message.find("503 SlowDown") != std::string::npos);
    CHECK(server->count()["counts"]["GET"] == 3);
  }
  SUBCASE("no answer") {
    options.idle_timeout = std::chrono::milliseconds(100);
    options.retries.most = 1;
    options.sources = {.random = [] { return 0.0; }};
    S3Store impatient = open_s3(options);
    server->command({{"fault", "delay"}, {"times", 2}, {"match", "seg-1"}, {"seconds", 0.5}});
    CHECK(impatient.size(key).error().code == ErrorCode::deadline);
  }
  SUBCASE("what is refused is not asked for again") {
    server->command({{"fault", "error"}, {"times", 1}, {"method", "PUT"}, {"status", 403}, {"code", "AccessDenied"}});
    CHECK(store.put(key, {}).error().code == ErrorCode::io);
    CHECK(server->count()["counts"]["PUT"] == 1);
  }
  SUBCASE("a full bucket") {
    server->command({{"fault", "error"}, {"times", 1}, {"status", 403}, {"code", "QuotaExceeded"}});
    CHECK(store.put(key, {}).error().code == ErrorCode::no_space);
  }
  SUBCASE("a server that ignores ranges") {
    server->command({{"fault", "body"}, {"times", 1}, {"text", "0123456789"}});
    std::vector<std::byte> part(5);
    CHECK(store.get(key, 0, part).error().code == ErrorCode::unsupported);
  }
  SUBCASE("more than there may be, whatever the head says") {
    server->command({{"fault", "body"}, {"times", 1}, {"text", std::string(100'000, 'x')}});
    CHECK(store.load(key, 99'999).error().code == ErrorCode::too_large);
  }
}

TEST_CASE("S3Store: a fifth of all answers is an error, and all is done") {
  const CalmServer server;
  if (!server) return;
  S3Store store = open_s3(server->options());
  server->command({{"share", 0.2}, {"seed", 7}});
  for (unsigned i = 0; i < 20; ++i) {
    const std::string key = folder_a + "/seg-" + std::to_string(i);
    const auto bytes = some_bytes(1000 + i, i);
    REQUIRE(store.put(key, bytes));
    CHECK(store.load(key, 2000).value() == bytes);
  }
  CHECK(store.list(folder_a).value().size() == 20);
  CHECK(server->count()["broken"] > 3);
}

}  // namespace krul::test
