#include "krul/s3/s3_store.hpp"

#include <algorithm>
#include <atomic>
#include <optional>
#include <stop_token>
#include <thread>
#include <vector>

#include "krul/store/any_store.hpp"
#include "s3_server.hpp"
#include "unit/store/store_test_support.hpp"

namespace krul::test {

static_assert(ReadsTogether<S3Store> && SizesTogether<S3Store> && LoadsWhole<S3Store>);

TEST_CASE("S3Store: objects come back as they were put, whole, in parts and together") {
  const CalmServer server;
  if (!server) return;
  S3Store store = open_s3(server->options());
  CHECK(store.capabilities().distant);
  CHECK(store.capabilities().durable);
  CHECK(store.capabilities().shared);
  CHECK(store.capabilities().largest == 5ULL << 40);
  const std::string key = folder_a + "/seg-1", other = folder_a + "/a.b-2";
  const std::vector<std::byte> bytes = some_bytes(100'000, 1), few = some_bytes(3, 2);
  REQUIRE(store.put(key, few));
  REQUIRE(store.put(key, bytes));
  REQUIRE(store.put(other, {}));
  CHECK(store.size(key).value() == bytes.size());
  CHECK(store.size(other).value() == 0);
  CHECK(store.load(key, bytes.size()).value() == bytes);
  CHECK(store.load(other, 0).value().empty());
  std::vector<std::byte> part(1000);
  REQUIRE(store.get(key, 98'999, part));
  CHECK(std::equal(part.begin(), part.end(), bytes.begin() + 98'999));
  CHECK(store.get(key, bytes.size(), {}));
  CHECK(store.list(folder_a).value() == std::vector<std::string>{"a.b-2", "seg-1"});
  CHECK(store.list(folder_b).value().empty());
  CHECK(store.list("").value() == std::vector<std::string>{folder_a});

  const std::vector<std::string> keys = {key, folder_a + "/none", other, folder_b + "/none"};
  const auto sizes = store.sizes(keys);
  CHECK(sizes[0].value() == bytes.size());
  CHECK(sizes[1].error().code == ErrorCode::not_found);
  CHECK(sizes[2].value() == 0);
  CHECK(sizes[3].error().code == ErrorCode::not_found);

  REQUIRE(store.erase(key));
  CHECK(store.erase(key));
  CHECK(store.size(key).error().code == ErrorCode::not_found);
  CHECK(store.get(key, 0, part).error().code == ErrorCode::not_found);
  CHECK(store.load(key, 10).error().code == ErrorCode::not_found);
}

TEST_CASE("S3Store: what cannot be had is named") {
  const CalmServer server;
  if (!server) return;
  S3Store store = open_s3(server->options());
  const std::string key = folder_a + "/seg-1";
  REQUIRE(store.put(key, some_bytes(100, 1)));
  std::vector<std::byte> part(60);
  CHECK(store.get(key, 41, part).error().code == ErrorCode::truncated);
  CHECK(store.get(key, 100, part).error().code == ErrorCode::truncated);
  CHECK(store.get(key, 101, {}).error().code == ErrorCode::truncated);
  CHECK(store.load(key, 99).error().code == ErrorCode::too_large);
  CHECK_THROWS_AS((void)store.put("x", {}), PreconditionError);
  CHECK_THROWS_AS((void)store.get("x", 0, part), PreconditionError);
  CHECK_THROWS_AS((void)store.size("x"), PreconditionError);
  CHECK_THROWS_AS((void)store.erase("../x"), PreconditionError);
  CHECK_THROWS_AS((void)store.list("x"), PreconditionError);
  CHECK_THROWS_AS((void)store.lock("x"), PreconditionError);
  CHECK_THROWS_AS((void)store.load("x", 1), PreconditionError);
  CHECK_THROWS_AS((void)store.sizes(std::vector<std::string>{"x"}), PreconditionError);
  const RangedRead read{.key = "x", .to = part};
  CHECK_THROWS_AS(store.get_together({&read, 1}, {}, [](std::size_t, const Status&) {}), PreconditionError);
}

TEST_CASE("S3Store: many reads are few requests, and each ends once") {
  const CalmServer server;
  if (!server) return;
  S3StoreOptions options = server->options();
  options.read_bytes = 500;
  S3Store store = open_s3(options);
  const std::vector<std::byte> first = some_bytes(1000, 1), second = some_bytes(400, 2);
  REQUIRE(store.put(folder_a + "/seg-1", first));
  REQUIRE(store.put(folder_a + "/seg-2", second));
  std::vector<std::byte> room(2000);
  const auto at = [&](std::size_t from, std::size_t count) { return std::span(room).subspan(from, count); };
  const std::vector<RangedRead> reads = {
      {folder_a + "/seg-1", 0, at(0, 200)},    {folder_a + "/seg-1", 200, at(200, 300)},
      {folder_a + "/seg-1", 500, at(500, 10)}, {folder_a + "/seg-2", 350, at(600, 50)},
      {folder_a + "/seg-2", 400, at(700, 50)}, {folder_a + "/seg-2", 450, at(800, 50)},
      {folder_a + "/none", 0, at(900, 1)},     {folder_a + "/seg-1", 7, at(0, 0)}};
  std::vector<std::optional<Status>> ends(reads.size());
  server->count();
  const auto caller = std::this_thread::get_id();
  store.get_together(reads, {}, [&](std::size_t i, const Status& status) {
    CHECK(std::this_thread::get_id() == caller);
    CHECK_FALSE(ends[i].has_value());
    ends[i] = status;
  });
  for (const std::size_t i : {0, 1, 2, 3, 7}) CHECK(ends[i].value());
  CHECK(ends[4].value().error().code == ErrorCode::truncated);
  CHECK(ends[5].value().error().code == ErrorCode::truncated);
  CHECK(ends[6].value().error().code == ErrorCode::not_found);
  CHECK(std::equal(first.begin(), first.begin() + 510, room.begin()));
  CHECK(std::equal(second.begin() + 350, second.end(), room.begin() + 600));
  const auto counts = server->count()["counts"];
  CHECK(counts["GET"] == 4);  // 0 and 1 touch, 2 would be too much; 3 to 5 touch
  CHECK(counts["HEAD"] == 1);
}

TEST_CASE("S3Store: reads end when the caller has no more time, or gives up") {
  const CalmServer server;
  if (!server) return;
  S3StoreOptions options = server->options();
  options.sources = {};
  S3Store store = open_s3(options);
  REQUIRE(store.put(folder_a + "/seg-1", some_bytes(100, 1)));
  std::vector<std::byte> room(100);
  const std::vector<RangedRead> reads = {{folder_a + "/seg-1", 0, room}};
  const auto code_of = [&](const RequestLimits& limits) {
    std::optional<ErrorCode> code;
    store.get_together(reads, limits, [&](std::size_t, const Status& status) { code = status.error().code; });
    return code;
  };
  CHECK(code_of({.deadline = SteadyClock{}.now()}) == ErrorCode::deadline);
  std::stop_source stop;
  stop.request_stop();
  CHECK(code_of({.stop = stop.get_token()}) == ErrorCode::cancelled);
  for (int i = 0; i < 2; ++i)
    server->command({{"fault", "delay"}, {"times", 1}, {"method", "GET"}, {"match", "seg-1"}, {"seconds", 0.5}});
  CHECK(code_of({.deadline = SteadyClock{}.now() + std::chrono::milliseconds(100)}) == ErrorCode::deadline);
  std::stop_source later;
  std::jthread stopper([&] {
    SteadyClock{}.sleep_until(SteadyClock{}.now() + std::chrono::milliseconds(50));
    later.request_stop();
  });
  CHECK(code_of({.stop = later.get_token()}) == ErrorCode::cancelled);
}

TEST_CASE("S3Store: large objects go up in parts, and what goes wrong leaves none behind") {
  const CalmServer server;
  if (!server) return;
  S3StoreOptions options = server->options();
  options.part_bytes = 5U << 20;
  options.multipart_above = 6U << 20;
  S3Store store = open_s3(options);
  const std::string key = folder_a + "/seg-1";
  const std::vector<std::byte> bytes = some_bytes((11U << 20) + 7, 3);
  server->count();
  REQUIRE(store.put(key, bytes));
  auto counts = server->count()["counts"];
  CHECK(counts["POST"] == 2);
  CHECK(counts["PUT"] == 3);
  CHECK(store.load(key, bytes.size()).value() == bytes);

  SUBCASE("a part is tried again") {
    server->command({{"fault", "error"}, {"times", 1}, {"match", "partNumber=2"}, {"status", 503}});
    CHECK(store.put(key, bytes));
  }
  SUBCASE("a part that is refused: the old object stays") {
    server->command(
        {{"fault", "error"}, {"times", 1}, {"match", "partNumber=2"}, {"status", 403}, {"code", "AccessDenied"}});
    CHECK(store.put(key, some_bytes(bytes.size(), 4)).error().code == ErrorCode::io);
    CHECK(store.load(key, bytes.size()).value() == bytes);
  }
  SUBCASE("the last answer is lost: it counts as what it did") {
    const std::vector<std::byte> newer = some_bytes(bytes.size(), 4);
    server->command({{"fault", "forget"}, {"times", 1}, {"method", "POST"}, {"match", "uploadId"}});
    CHECK(store.put(key, newer));
    CHECK(store.load(key, bytes.size()).value() == newer);
  }
  SUBCASE("a failure in the body of a success") {
    server->command({{"fault", "body"},
                     {"times", 1},
                     {"method", "POST"},
                     {"match", "uploadId"},
                     {"text", "<Error><Code>InternalError</Code></Error>"}});
    CHECK(store.put(key, some_bytes(bytes.size(), 4)).error().code == ErrorCode::io);
    CHECK(store.load(key, bytes.size()).value() == bytes);
  }
  SUBCASE("what begins an upload has to name it") {
    server->command({{"fault", "body"}, {"times", 1}, {"method", "POST"}, {"text", "<a/>"}});
    CHECK(store.put(key, some_bytes(bytes.size(), 4)).error().code == ErrorCode::io);
  }
  CHECK(server->command({{"uploads", "krul-test"}})["uploads"] == 0);
}

TEST_CASE("S3Store: a listing has as many pages as it needs, and foreign objects do not show") {
  const CalmServer server;
  if (!server) return;
  S3StoreOptions options = server->options();
  S3Store store = open_s3(options);
  REQUIRE(store.put(folder_a + "/seg-1", {}));
  const auto page = [&](const std::string& keys, const std::string& next) {
    std::string text = "<ListBucketResult>";
    for (const char* const key : {"seg-3", ".lock", "Large%20Name", "deeper/seg-4"})
      text += "<Contents><Key>" + options.prefix + "/" + folder_a + "/" + key +
              "</Key><Size>5</Size><ETag>\"1\"</ETag></Contents>";
    text += "<Contents><Key>elsewhere/seg-9</Key><Size>5</Size></Contents>" + keys;
    if (!next.empty())
      text += "<IsTruncated>true</IsTruncated><NextContinuationToken>" + next + "</NextContinuationToken>";
    server->command({{"fault", "body"}, {"times", 1}, {"match", "list-type"}, {"text", text + "</ListBucketResult>"}});
  };
  SUBCASE("pages") {
    page("", "a+/=b");
    page("<Contents><Key>" + options.prefix + "/" + folder_a + "/a-1</Key></Contents>", "c");
    page("", "");
    CHECK(store.list(folder_a).value() == std::vector<std::string>{"a-1", "seg-3"});
    CHECK(server->count()["broken"] == 3);
  }
  SUBCASE("pages that never end") {
    page("", "a");
    page("", "a");
    CHECK(store.list(folder_a).error().code == ErrorCode::io);
  }
  SUBCASE("empty pages that never end") {
    for (const std::string match : {"token=a", "token=b", "list-type"}) {
      const std::string next = match == "token=a" ? "b" : "a";
      server->command({{"fault", "body"},
                       {"times", 2000},
                       {"match", match},
                       {"text", "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>" + next +
                                    "</NextContinuationToken></ListBucketResult>"}});
    }
    CHECK(store.list(folder_a).error().code == ErrorCode::io);
    CHECK(server->count()["broken"] == 1001);
  }
  SUBCASE("a size that is none") {
    page("<Contents><Key>x</Key><Size>-5</Size></Contents>", "");
    CHECK(store.list(folder_a).error().code == ErrorCode::io);
  }
  SUBCASE("no list") {
    server->command({{"fault", "body"}, {"times", 1}, {"text", "<html></html>"}});
    CHECK(store.list(folder_a).error().code == ErrorCode::io);
  }
  SUBCASE("no XML") {
    server->command({{"fault", "body"}, {"times", 1}, {"text", "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"}});
    CHECK(store.list(folder_a).error().code == ErrorCode::corrupt);
  }
  SUBCASE("more than a page has") {
    server->command({{"fault", "body"}, {"times", 1}, {"text", std::string((8U << 20) + 1, ' ')}});
    CHECK(store.list(folder_a).error().code == ErrorCode::too_large);
  }
}

TEST_CASE("S3Store: several threads share one store") {
  const CalmServer server;
  if (!server) return;
  S3Store store = open_s3(server->options());
  std::vector<std::jthread> threads;
  std::atomic<int> right = 0;
  for (unsigned i = 0; i < 4; ++i)
    threads.emplace_back([i, store, &right]() mutable {
      const std::string key = folder_a + "/seg-" + std::to_string(i);
      const auto bytes = some_bytes(1000 + i, i);
      if (store.put(key, bytes) && store.load(key, 2000) == bytes && store.list(folder_a)) ++right;
    });
  threads.clear();
  CHECK(right == 4);
}

TEST_CASE("S3Store: what opening finds wrong is said") {
  const CalmServer server;
  if (!server) return;
  S3StoreOptions options = server->options();
  const auto error = [&] { return S3Store::open(options).error(); };
  const auto says = [&](ErrorCode code, const char* words) {
    const Error told = error();
    CAPTURE(told.message);
    CHECK(told.code == code);
    CHECK(told.message.find(words) != std::string::npos);
  };
  SUBCASE("no such bucket") {
    options.bucket = "krul-none";
    says(ErrorCode::io, "no bucket krul-none");
  }
  SUBCASE("no S3 server") {
    server->command({{"fault", "error"}, {"times", 1}, {"status", 404}, {"code", ""}});
    says(ErrorCode::io, "may be no S3 server");
  }
  SUBCASE("access key") {
    options.access_key = "AKIDOTHER";
    says(ErrorCode::io, "AWS_ACCESS_KEY_ID");
  }
  SUBCASE("secret key") {
    options.secret_key = "other";
    says(ErrorCode::io, "AWS_SECRET_ACCESS_KEY");
  }
  SUBCASE("no keys") {
    options.access_key = options.secret_key = "";
    says(ErrorCode::io, "s3:ListBucket");
  }
  SUBCASE("session token") {
    options.session_token = "old";
    says(ErrorCode::io, "AWS_SESSION_TOKEN");
  }
  SUBCASE("region") {
    options.region = "eu-test-2";
    says(ErrorCode::invalid_argument, "is in region eu-test-1; set that region");
  }
  SUBCASE("another region, told by a redirection") {
    server->command({{"fault", "error"},
                     {"times", 1},
                     {"status", 301},
                     {"code", "PermanentRedirect"},
                     {"headers", {{"x-amz-bucket-region", "eu-test-3"}}}});
    says(ErrorCode::invalid_argument, "is in region eu-test-3");
  }
  SUBCASE("another endpoint") {
    server->command({{"fault", "error"}, {"times", 1}, {"status", 307}, {"code", "TemporaryRedirect"}});
    says(ErrorCode::invalid_argument, "another region or at another endpoint");
  }
  SUBCASE("clock") {
    server->command({{"clock", -4000}, {"skewed", true}});
    says(ErrorCode::io, "set the clock");
  }
  SUBCASE("nobody there") {
    options.endpoint = "http://127.0.0.1:1";
    says(ErrorCode::io, "cannot be reached");
  }
  SUBCASE("no such host") {
    options.endpoint = "http://krul.invalid";
    options.path_style = true;
    says(ErrorCode::io, "cannot be reached");
  }
  SUBCASE("options") {
    options.bucket = "x";
    says(ErrorCode::invalid_argument, "bucket's name");
  }
}

}  // namespace krul::test
