// Stands in for the real store where libcurl, expat or OpenSSL was not found: open refuses, so that nothing else can be
// reached.
#include "krul/s3/s3_store.hpp"

#include <utility>

namespace krul {

struct S3Store::State {};

namespace {

tl::unexpected<Error> absent() {
  return fail(ErrorCode::unsupported,
              "this build has no S3: install libcurl4-openssl-dev, libexpat1-dev and libssl-dev, and configure with "
              "KRUL_WITH_S3=ON");
}

}  // namespace

S3Store::S3Store(std::shared_ptr<State> state) : state_(std::move(state)) {}
Result<S3Store> S3Store::open(S3StoreOptions) {
  return absent();
}
Status S3Store::put(const std::string&, std::span<const std::byte>) {
  return absent();
}
Status S3Store::get(const std::string&, std::uint64_t, std::span<std::byte>) {
  return absent();
}
Result<std::uint64_t> S3Store::size(const std::string&) {
  return absent();
}
Status S3Store::erase(const std::string&) {
  return absent();
}
Result<std::vector<std::string>> S3Store::list(const std::string&) {
  return absent();
}
Result<S3Store::Lock> S3Store::lock(const std::string&) {
  return absent();
}
void S3Store::get_together(std::span<const RangedRead> reads, const RequestLimits&, const ReadEnd& ended) {
  for (std::size_t i = 0; i < reads.size(); ++i) ended(i, absent());
}
std::vector<Result<std::uint64_t>> S3Store::sizes(std::span<const std::string> keys) {
  return std::vector<Result<std::uint64_t>>(keys.size(), absent());
}
Result<std::vector<std::byte>> S3Store::load(const std::string&, std::uint64_t) {
  return absent();
}

S3Store::Lock::Lock(std::shared_ptr<State> state, std::string folder)
    : state_(std::move(state)), folder_(std::move(folder)) {}
S3Store::Lock::Lock(Lock&& other) noexcept = default;
S3Store::Lock::~Lock() = default;

}  // namespace krul
