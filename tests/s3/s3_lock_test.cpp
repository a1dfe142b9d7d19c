#include <new>
#include <string>
#include <vector>

#include "s3_server.hpp"
#include "unit/store/store_test_support.hpp"

namespace krul::test {
namespace {

const std::string manifest_key = folder_a + "/manifest-a";

std::vector<std::byte> stored(S3Store& store, const std::string& key) {
  return store.load(key, 1 << 20).value();
}

}  // namespace

TEST_CASE("S3Store: a folder has one writer, until it gives it back") {
  const CalmServer server;
  if (!server) return;
  const S3StoreOptions options = server->options();
  S3Store first = open_s3(options), second = open_s3(options);
  {
    auto lock = first.lock(folder_a);
    REQUIRE(lock);
    CHECK(first.lock(folder_a).error().code == ErrorCode::busy);
    const Error error = second.lock(folder_a).error();
    CHECK(error.code == ErrorCode::busy);
    CHECK(error.message.find("unless it died") != std::string::npos);
    CHECK(second.lock(folder_b));
    CHECK(first.put(manifest_key, some_bytes(10, 1)));
    CHECK(first.put(manifest_key, some_bytes(10, 2)));
    CHECK(first.erase(manifest_key));
    CHECK(first.put(manifest_key, some_bytes(10, 3)));
    const S3Store::Lock moved = std::move(*lock);
  }
  const auto lock = second.lock(folder_a);
  REQUIRE(lock);
  CHECK(second.put(manifest_key, some_bytes(10, 4)));
  CHECK(stored(first, manifest_key) == some_bytes(10, 4));
}

TEST_CASE("S3Store: what opening a store and taking a lock costs") {
  const CalmServer server;
  if (!server) return;
  const S3StoreOptions options = server->options();
  S3Store store = open_s3(options);
  CHECK(server->count()["counts"] == nlohmann::json{{"GET", 1}});
  const auto first = store.lock(folder_a);
  REQUIRE(first);
  CHECK(server->count()["counts"] == nlohmann::json{{"PUT", 3 + 1}, {"HEAD", 2}, {"GET", 1}});
  CHECK(store.lock(folder_b));
  CHECK(server->count()["counts"] == nlohmann::json{{"PUT", 1}, {"GET", 1}, {"DELETE", 1}});
  // What the first of all stores asked with is still there.
  S3Store next = open_s3(options);
  CHECK(next.list("").value().empty());
  server->count();
  CHECK(next.lock(folder_b));
  CHECK(server->count()["counts"] == nlohmann::json{{"PUT", 2 + 1}, {"HEAD", 2}, {"GET", 1}, {"DELETE", 1}});
}

TEST_CASE("S3Store: what is thrown while a lock is taken leaves the folder free") {
  const CalmServer server;
  if (!server) return;
  S3StoreOptions options = server->options();
  bool throws = true;
  options.sources.random = [&throws] { return throws ? throw std::bad_alloc() : 0.5; };
  S3Store store = open_s3(options);
  server->command({{"fault", "error"}, {"times", 1}, {"match", ".locks"}, {"status", 503}});
  CHECK_THROWS_AS((void)store.lock(folder_a), std::bad_alloc);
  throws = false;
  CHECK(store.lock(folder_a));
}

TEST_CASE("S3Store: a lock runs out by the server's clock, and its holder hears of it") {
  const CalmServer server;
  if (!server) return;
  const S3StoreOptions options = server->options();
  S3Store first = open_s3(options), second = open_s3(options);
  auto held = first.lock(folder_a);
  REQUIRE(held);
  REQUIRE(first.put(manifest_key, some_bytes(10, 1)));
  REQUIRE(first.put(folder_a + "/seg-1", some_bytes(10, 1)));
  server->command({{"clock", 59}});
  CHECK(second.lock(folder_a).error().code == ErrorCode::busy);
  server->command({{"clock", 65}});
  auto taken = second.lock(folder_a);
  REQUIRE(taken);
  SUBCASE("it saved first: the new holder's save fails") {
    REQUIRE(first.put(manifest_key, some_bytes(10, 2)));
    CHECK(second.put(manifest_key, some_bytes(10, 3)).error().code == ErrorCode::busy);
    CHECK(second.put(folder_a + "/seg-2", {}).error().code == ErrorCode::busy);
    CHECK(second.erase(folder_a + "/seg-1").error().code == ErrorCode::busy);
    CHECK(stored(first, manifest_key) == some_bytes(10, 2));
  }
  SUBCASE("the new holder saved first: its save fails, and all after it") {
    REQUIRE(second.put(manifest_key, some_bytes(10, 3)));
    const Error error = first.put(manifest_key, some_bytes(10, 2)).error();
    CHECK(error.code == ErrorCode::busy);
    CHECK(error.message.find("open the conversation again") != std::string::npos);
    CHECK(first.put(folder_a + "/seg-2", {}).error().code == ErrorCode::busy);
    CHECK(first.erase(folder_a + "/seg-1").error().code == ErrorCode::busy);
    CHECK(stored(second, manifest_key) == some_bytes(10, 3));
  }
  SUBCASE("the new holder erased it: its save fails") {
    REQUIRE(second.erase(manifest_key));
    CHECK(first.put(manifest_key, some_bytes(10, 2)).error().code == ErrorCode::busy);
  }
  SUBCASE("a third of its lifetime later it asks, and hears that it lost it") {
    server->clock().advance(std::chrono::seconds(21));
    CHECK(first.erase(folder_a + "/seg-1").error().code == ErrorCode::busy);
    CHECK(first.put(folder_a + "/seg-2", {}).error().code == ErrorCode::busy);
    CHECK(first.put(manifest_key, {}).error().code == ErrorCode::busy);
  }
  held = fail(ErrorCode::cancelled, "");
  CHECK(open_s3(options).lock(folder_a).error().code == ErrorCode::busy);  // the loser takes nobody's lock along
}

TEST_CASE("S3Store: a lock that is used is renewed") {
  const CalmServer server;
  if (!server) return;
  const S3StoreOptions options = server->options();
  S3Store first = open_s3(options), second = open_s3(options);
  const auto held = first.lock(folder_a);
  REQUIRE(held);
  for (int i = 1; i <= 4; ++i) {
    server->clock().advance(std::chrono::seconds(30));
    server->command({{"clock", 30 * i}});
    CHECK(first.put(folder_a + "/seg-" + std::to_string(i), {}));
    CHECK(second.lock(folder_a).error().code == ErrorCode::busy);
  }
  SUBCASE("also when the answer to it is lost") {
    server->clock().advance(std::chrono::seconds(30));
    server->command({{"fault", "forget"}, {"times", 1}, {"match", ".locks/"}});
    CHECK(first.put(folder_a + "/seg-5", {}));
    CHECK(first.put(manifest_key, {}));
  }
}

TEST_CASE("S3Store: a request whose answer is lost counts as what it did, and no more") {
  const CalmServer server;
  if (!server) return;
  S3Store store = open_s3(server->options());
  server->command({{"fault", "forget"}, {"times", 1}, {"method", "PUT"}, {"match", ".locks/"}});
  const auto held = store.lock(folder_a);
  REQUIRE(held);
  server->command({{"fault", "forget"}, {"times", 1}, {"method", "PUT"}, {"match", "manifest-a"}});
  CHECK(store.put(manifest_key, some_bytes(10, 1)));
  CHECK(store.put(manifest_key, some_bytes(10, 2)));
  CHECK(stored(store, manifest_key) == some_bytes(10, 2));
}

TEST_CASE("S3Store: who takes over from a writer that died throws its upload away") {
  const CalmServer server;
  if (!server) return;
  S3StoreOptions options = server->options();
  options.part_bytes = options.multipart_above = 5U << 20;
  options.retries.most = 0;
  S3Store first = open_s3(options);
  auto held = first.lock(folder_a);
  REQUIRE(held);
  // Neither the upload nor its end comes through, as when the writer dies.
  server->command({{"fault", "error"}, {"times", 1}, {"match", "partNumber"}, {"status", 403}});
  server->command({{"fault", "error"}, {"times", 1}, {"method", "DELETE"}, {"status", 403}});
  REQUIRE_FALSE(first.put(folder_a + "/seg-1", some_bytes((5U << 20) + 1, 1)));
  CHECK(server->command({{"uploads", "krul-test"}})["uploads"] == 1);
  server->command({{"clock", 65}});
  S3Store second = open_s3(options);
  const auto taken = second.lock(folder_a);
  CHECK(taken);
  CHECK(server->command({{"uploads", "krul-test"}})["uploads"] == 0);
}

TEST_CASE("S3Store: servers without conditional writes are found out") {
  const CalmServer server;
  if (!server) return;
  S3StoreOptions options = server->options();
  SUBCASE("they ignore the conditions") {
    server->command({{"heeds", false}});
    S3Store store = open_s3(options);
    const Error error = store.lock(folder_a).error();
    CHECK(error.code == ErrorCode::unsupported);
    CHECK(error.message.find("conditional_writes = false") != std::string::npos);
    CHECK(store.list("").value().empty());
  }
  SUBCASE("they refuse them") {
    server->command(
        {{"fault", "error"}, {"times", 1}, {"match", ".probe"}, {"status", 501}, {"code", "NotImplemented"}});
    S3Store store = open_s3(options);
    CHECK(store.lock(folder_a).error().code == ErrorCode::unsupported);
  }
  SUBCASE("it could not be asked") {
    server->command({{"fault", "error"}, {"times", 1}, {"match", ".probe"}, {"status", 403}, {"code", "AccessDenied"}});
    S3Store store = open_s3(options);
    CHECK(store.lock(folder_a).error().code == ErrorCode::io);
    CHECK(store.lock(folder_a));
  }
  SUBCASE("locks do without") {
    server->command({{"heeds", false}});
    options.conditional_writes = false;
    S3Store first = open_s3(options), second = open_s3(options);
    auto held = first.lock(folder_a);
    REQUIRE(held);
    CHECK(second.lock(folder_a).error().code == ErrorCode::busy);
    CHECK(first.put(manifest_key, {}));
    server->clock().advance(std::chrono::seconds(30));
    CHECK(first.put(manifest_key, {}));
    server->command({{"clock", 95}});
    const auto taken = second.lock(folder_a);
    REQUIRE(taken);
    server->clock().advance(std::chrono::seconds(30));
    CHECK(first.put(manifest_key, {}).error().code == ErrorCode::busy);
  }
}

TEST_CASE("S3Store: what is no lock of krul's is left alone") {
  const CalmServer server;
  if (!server) return;
  const S3StoreOptions options = server->options();
  S3Store store = open_s3(options);
  REQUIRE(store.lock(folder_b));  // and the server has been asked for what it heeds
  const auto refuses = [&](const std::string& text) {
    server->command({{"fault", "error"}, {"times", 1}, {"method", "PUT"}, {"match", ".locks"}, {"status", 412}});
    server->command({{"fault", "body"}, {"times", 1}, {"method", "GET"}, {"match", ".locks"}, {"text", text}});
    const Error error = store.lock(folder_a).error();
    CHECK(error.message.find("no lock that krul wrote") != std::string::npos);
    return error.code == ErrorCode::io;
  };
  CHECK(refuses(""));
  CHECK(refuses("krul lock 1\n"));
  CHECK(refuses("krul lock 1\ntoken\n"));
  CHECK(refuses("krul lock 1\ntoken\nsoon\n"));
  CHECK(refuses("krul lock 1\ntoken\n5 o'clock\n"));
  CHECK(refuses("krul lock 1\ntoken\n5"));
  CHECK(refuses("krul lock 1\ntoken\n-9223372036854775808\n"));
  CHECK(refuses("krul lock 1\ntoken\n-1\n"));
  CHECK(refuses("krul lock 1\ntoken\n253402300800\n"));
  CHECK(refuses("krul lock 2\ntoken\n5\n"));
  CHECK(refuses(std::string(5000, 'x')));
  SUBCASE("a lock that ran out and has no ETag is not replaced, as nothing would tell whose it is") {
    server->command({{"fault", "error"}, {"times", 1}, {"method", "PUT"}, {"match", ".locks"}, {"status", 412}});
    server->command(
        {{"fault", "body"}, {"times", 1}, {"method", "GET"}, {"match", ".locks"}, {"text", "krul lock 1\ntoken\n5\n"}});
    CHECK(store.lock(folder_a).error().code == ErrorCode::io);
    CHECK(store.lock(folder_a));
  }
  SUBCASE("nor is a manifest: the lock is given back") {
    server->command({{"fault", "body"},
                     {"times", 1},
                     {"match", "list-type"},
                     {"text", "<ListBucketResult><Contents><Key>" + options.prefix + "/" + manifest_key +
                                  "</Key><Size>5</Size><ETag>a b</ETag></Contents></ListBucketResult>"}});
    CHECK(store.lock(folder_a).error().code == ErrorCode::io);
    CHECK(store.lock(folder_a));
  }
  SUBCASE("the manifests could not be listed: the lock is given back") {
    server->command({{"fault", "error"}, {"times", 1}, {"match", "list-type"}, {"status", 403}});
    CHECK(store.lock(folder_a).error().code == ErrorCode::io);
    CHECK(store.lock(folder_a));
  }
}

}  // namespace krul::test
