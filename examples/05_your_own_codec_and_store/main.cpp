// A codec for rows and a store, both written outside of krul. A conversation is saved with the codec in the store and
// restored; without the codec it is recomputed.

#include <iostream>
#include <krul/conversation/conversation.hpp>
#include <krul/core/half.hpp>
#include <krul/strategy/catalogue/load.hpp>
#include <map>
#include <mutex>
#include <vector>

#include "../02_your_own_backend/toy_backend.hpp"

/// One byte a value: sign, five bits of exponent, two of mantissa; the upper byte of an f16.
struct Fp8Codec {
  [[nodiscard]] std::string_view name() const { return "example.fp8.1"; }
  [[nodiscard]] std::size_t bytes(const krul::Geometry& geometry, std::size_t rows) const {
    return rows * geometry.kv_values();
  }
  void encode(const krul::Geometry& geometry, std::span<const std::byte> rows, std::span<std::byte> to) const {
    std::vector<float> values(to.size());
    krul::to_float(geometry.cache_type, rows, values);
    for (std::size_t i = 0; i < values.size(); ++i)
      to[i] = static_cast<std::byte>((krul::f16_from_float(values[i]) + 0x80U) >> 8);
  }
  krul::Status decode(const krul::Geometry& geometry, std::span<const std::byte> from,
                      std::span<std::byte> rows) const {
    std::vector<float> values(from.size());
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = krul::float_from_f16(static_cast<std::uint16_t>(std::to_integer<unsigned>(from[i]) << 8));
    krul::from_float(geometry.cache_type, values, rows);
    return {};
  }
  [[nodiscard]] double relative_error(krul::ElementType) const { return 0x1p-3; }
};
static_assert(krul::RowCodec<Fp8Codec>);

/// Objects in a map. One process, so that nobody else can write.
class MapStore {
 public:
  struct Lock {};
  krul::Status put(const std::string& key, std::span<const std::byte> bytes) {
    const std::lock_guard guard(mutex_);
    objects_[key].assign(bytes.begin(), bytes.end());
    return {};
  }
  krul::Status get(const std::string& key, std::uint64_t offset, std::span<std::byte> to) {
    const std::lock_guard guard(mutex_);
    const auto found = objects_.find(key);
    if (found == objects_.end()) return krul::fail(krul::ErrorCode::not_found, "there is no object " + key);
    if (offset + to.size() > found->second.size())
      return krul::fail(krul::ErrorCode::truncated, "object " + key + " is shorter");
    std::copy_n(found->second.begin() + static_cast<std::ptrdiff_t>(offset), to.size(), to.begin());
    return {};
  }
  krul::Result<std::uint64_t> size(const std::string& key) {
    const std::lock_guard guard(mutex_);
    const auto found = objects_.find(key);
    if (found == objects_.end()) return krul::fail(krul::ErrorCode::not_found, "there is no object " + key);
    return found->second.size();
  }
  krul::Status erase(const std::string& key) {
    const std::lock_guard guard(mutex_);
    objects_.erase(key);
    return {};
  }
  krul::Result<std::vector<std::string>> list(const std::string& folder) {
    const std::lock_guard guard(mutex_);
    std::vector<std::string> names;
    for (const auto& [key, object] : objects_) {
      const std::string name = folder.empty() ? key.substr(0, 32) : key.substr(33);
      const bool wanted = folder.empty() ? names.empty() || names.back() != name : key.starts_with(folder + "/");
      if (wanted) names.push_back(name);
    }
    return names;
  }
  krul::Result<Lock> lock(const std::string&) { return Lock{}; }
  [[nodiscard]] krul::StoreCapabilities capabilities() const { return {}; }

 private:
  std::mutex mutex_;
  std::map<std::string, std::vector<std::byte>> objects_;
};
static_assert(krul::ConversationStore<MapStore>);

int main() {
  toy::Backend model;
  MapStore store;
  std::vector<float> logits(model.geometry().vocabulary);
  std::vector<krul::Token> tokens;
  for (krul::Token token = 7; tokens.size() < 260; token = (token * 21 + 13) % 64) tokens.push_back(token);
  {
    auto conversation = krul::open_conversation(model, store, "garden", krul::strategy::load(Fp8Codec{})).value();
    conversation.advance(std::span(tokens).first(256), logits).value();
    const auto saved = conversation.save().value();
    std::cout << saved.rows << " tokens saved by " << conversation.manifest().plans.front().codec << '\n';
  }
  {
    auto conversation = krul::open_conversation(model, store, "garden", krul::strategy::load(Fp8Codec{})).value();
    std::cout << conversation.advance(tokens, logits).value().loaded_rows << " rows loaded\n";
  }
  auto conversation = krul::open_conversation(model, store, "garden").value();  // krul's own codings alone
  const auto report = conversation.advance(tokens, logits).value();
  std::cout << report.loaded_rows << " rows loaded: " << report.reasons.front() << '\n';
}
