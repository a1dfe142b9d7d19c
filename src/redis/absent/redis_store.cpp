// Where hiredis was not found, or not wanted: no RedisStore is ever made, so that nothing else is called.
#include "krul/redis/redis_store.hpp"

#include <utility>

namespace krul {
namespace {

[[noreturn]] void no_redis() {
  throw PreconditionError("krul was built without hiredis");
}

}  // namespace

struct RedisStore::State {};

RedisStore::RedisStore(std::shared_ptr<State> state) : state_(std::move(state)) {}
RedisStore::Lock::Lock(std::shared_ptr<State> state, std::string folder, std::string token)
    : state_(std::move(state)), folder_(std::move(folder)), token_(std::move(token)) {}
RedisStore::Lock::~Lock() = default;

Result<RedisStore> RedisStore::open(const RedisStoreOptions& options) {
  if (const Status status = options.check(); !status) return propagate(status);
  return fail(
      ErrorCode::unsupported,
      "this build has no Redis: install hiredis (Debian: libhiredis-dev) and configure with KRUL_WITH_REDIS=ON");
}
Status RedisStore::put(const std::string&, std::span<const std::byte>) {
  no_redis();
}
Status RedisStore::get(const std::string&, std::uint64_t, std::span<std::byte>) {
  no_redis();
}
Result<std::uint64_t> RedisStore::size(const std::string&) {
  no_redis();
}
Status RedisStore::erase(const std::string&) {
  no_redis();
}
Result<std::vector<std::string>> RedisStore::list(const std::string&) {
  no_redis();
}
Result<RedisStore::Lock> RedisStore::lock(const std::string&) {
  no_redis();
}
StoreCapabilities RedisStore::capabilities() const {
  no_redis();
}
void RedisStore::get_together(std::span<const RangedRead>, const RequestLimits&, const ReadEnd&) {
  no_redis();
}
std::vector<Result<std::uint64_t>> RedisStore::sizes(std::span<const std::string>) {
  no_redis();
}
Result<std::vector<std::byte>> RedisStore::load(const std::string&, std::uint64_t) {
  no_redis();
}

}  // namespace krul
