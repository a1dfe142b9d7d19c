#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "krul/core/detail/erased.hpp"
#include "krul/core/error.hpp"
#include "krul/store/bring_near.hpp"
#include "krul/store/conversation_store.hpp"
#include "krul/store/object_sizes.hpp"
#include "krul/store/other_names.hpp"
#include "krul/store/ranged_reads.hpp"
#include "krul/store/whole_object.hpp"

namespace krul {

/// Any store behind one type: for programs that choose theirs while they run, and so that what is a template over
/// stores is compiled once. A virtual call a request costs nothing beside a read. Copies share the store.
class AnyStore {
 public:
  /// As the lock of the store it came from.
  class Lock {
   public:
    Lock(Lock&&) noexcept = default;
    Lock& operator=(Lock&&) = delete;

   private:
    friend AnyStore;
    explicit Lock(std::shared_ptr<void> held) : held_(std::move(held)) {}
    std::shared_ptr<void> held_;
  };

  /// @param store  shares what it holds with its copies, as all of krul's do, or is not used apart from this
  template <ConversationStore S>
  requires(!std::same_as<S, AnyStore>) AnyStore(S store)  // NOLINT: any store is one
      : store_(std::make_shared<Of<S>>(std::move(store))) {}

  /// A store that somebody else keeps, and longer than this.
  template <ConversationStore S>
  [[nodiscard]] static AnyStore borrowed(S& store) {
    return AnyStore(std::shared_ptr<Interface>(std::make_shared<Of<S&>>(store)));
  }

  [[nodiscard]] Status put(const std::string& key, std::span<const std::byte> bytes) { return store_->put(key, bytes); }
  [[nodiscard]] Status get(const std::string& key, std::uint64_t offset, std::span<std::byte> to) {
    return store_->get(key, offset, to);
  }
  [[nodiscard]] Result<std::uint64_t> size(const std::string& key) { return store_->size(key); }
  [[nodiscard]] Status erase(const std::string& key) { return store_->erase(key); }
  [[nodiscard]] Result<std::vector<std::string>> list(const std::string& folder) { return store_->list(folder); }
  [[nodiscard]] Result<Lock> lock(const std::string& folder) {
    auto held = store_->lock(folder);
    if (!held) return propagate(held);
    return Lock(std::move(*held));
  }
  [[nodiscard]] StoreCapabilities capabilities() { return store_->capabilities(); }
  void get_together(std::span<const RangedRead> reads, const RequestLimits& limits, const ReadEnd& ended) {
    store_->get_together(reads, limits, ended);
  }
  [[nodiscard]] std::vector<Result<std::uint64_t>> sizes(std::span<const std::string> keys) {
    return store_->sizes(keys);
  }
  [[nodiscard]] Result<std::vector<std::byte>> load(const std::string& key, std::uint64_t most) {
    return store_->load(key, most);
  }
  [[nodiscard]] Result<std::uint64_t> bring_near(const std::string& folder) { return store_->bring_near(folder); }
  [[nodiscard]] std::vector<std::string> dead_writes() { return store_->dead_writes(); }
  [[nodiscard]] std::vector<std::string> dead_writes(const std::string& folder) { return store_->dead_writes(folder); }
  [[nodiscard]] Result<std::vector<std::string>> foreign_names(const std::string& folder) {
    return store_->foreign_names(folder);
  }

 private:
  struct Interface : detail::Erased {
    virtual Status put(const std::string& key, std::span<const std::byte> bytes) = 0;
    virtual Status get(const std::string& key, std::uint64_t offset, std::span<std::byte> to) = 0;
    virtual Result<std::uint64_t> size(const std::string& key) = 0;
    virtual Status erase(const std::string& key) = 0;
    virtual Result<std::vector<std::string>> list(const std::string& folder) = 0;
    virtual Result<std::shared_ptr<void>> lock(const std::string& folder) = 0;
    virtual StoreCapabilities capabilities() = 0;
    virtual void get_together(std::span<const RangedRead> reads, const RequestLimits& limits, const ReadEnd& ended) = 0;
    virtual std::vector<Result<std::uint64_t>> sizes(std::span<const std::string> keys) = 0;
    virtual Result<std::vector<std::byte>> load(const std::string& key, std::uint64_t most) = 0;
    virtual Result<std::uint64_t> bring_near(const std::string& folder) = 0;
    virtual std::vector<std::string> dead_writes() = 0;
    virtual std::vector<std::string> dead_writes(const std::string& folder) = 0;
    virtual Result<std::vector<std::string>> foreign_names(const std::string& folder) = 0;
  };
  template <class S>
  struct Of final : Interface {
    explicit Of(S store) : held(std::forward<S>(store)) {}
    Status put(const std::string& key, std::span<const std::byte> bytes) override { return held.put(key, bytes); }
    Status get(const std::string& key, std::uint64_t offset, std::span<std::byte> to) override {
      return held.get(key, offset, to);
    }
    Result<std::uint64_t> size(const std::string& key) override { return held.size(key); }
    Status erase(const std::string& key) override { return held.erase(key); }
    Result<std::vector<std::string>> list(const std::string& folder) override { return held.list(folder); }
    Result<std::shared_ptr<void>> lock(const std::string& folder) override {
      auto lock = held.lock(folder);
      if (!lock) return propagate(lock);
      return std::shared_ptr<void>(std::make_shared<typename std::remove_reference_t<S>::Lock>(std::move(*lock)));
    }
    StoreCapabilities capabilities() override { return held.capabilities(); }
    void get_together(std::span<const RangedRead> reads, const RequestLimits& limits, const ReadEnd& ended) override {
      krul::get_together(held, reads, limits, ended);
    }
    std::vector<Result<std::uint64_t>> sizes(std::span<const std::string> keys) override {
      return object_sizes(held, keys);
    }
    Result<std::vector<std::byte>> load(const std::string& key, std::uint64_t most) override {
      return load_object(held, key, most);
    }
    Result<std::uint64_t> bring_near(const std::string& folder) override { return krul::bring_near(held, folder); }
    std::vector<std::string> dead_writes() override { return krul::dead_writes(held); }
    std::vector<std::string> dead_writes(const std::string& folder) override { return krul::dead_writes(held, folder); }
    Result<std::vector<std::string>> foreign_names(const std::string& folder) override {
      return krul::foreign_names(held, folder);
    }
    S held;
  };

  explicit AnyStore(std::shared_ptr<Interface> store) : store_(std::move(store)) {}

  std::shared_ptr<Interface> store_;
};
static_assert(ReadsTogether<AnyStore> && SizesTogether<AnyStore> && LoadsWhole<AnyStore> && TellsOtherNames<AnyStore>);

}  // namespace krul
