#include <krul/store/conversation_store.hpp>

using krul::Result, krul::Status;

namespace {

struct StoreArchetype {
  struct Lock {};
  StoreArchetype() = delete;
  StoreArchetype(const StoreArchetype&) = delete;
  StoreArchetype& operator=(const StoreArchetype&) = delete;

  [[nodiscard]] Status put(const std::string&, std::span<const std::byte>);
  [[nodiscard]] Status get(const std::string&, std::uint64_t, std::span<std::byte>);
  [[nodiscard]] Result<std::uint64_t> size(const std::string&);
  [[nodiscard]] Status erase(const std::string&);
  [[nodiscard]] Result<std::vector<std::string>> list(const std::string&);
  [[nodiscard]] Result<Lock> lock(const std::string&);
  [[nodiscard]] krul::StoreCapabilities capabilities();
};
struct NoLockType : StoreArchetype {
  using Lock = void;
};
struct PutThrowsInstead : StoreArchetype {
  void put(const std::string&, std::span<const std::byte>);
};
struct GetsWholeObjects : StoreArchetype {
  [[nodiscard]] Result<std::vector<std::byte>> get(const std::string&);
};
struct SizeWithoutReason : StoreArchetype {
  [[nodiscard]] std::uint64_t size(const std::string&);
};
struct NoErase : StoreArchetype {
  void erase(const std::string&) = delete;
};
struct ListsViews : StoreArchetype {
  [[nodiscard]] Result<std::vector<std::string_view>> list(const std::string&);
};
struct LocksWithBool : StoreArchetype {
  [[nodiscard]] Result<bool> lock(const std::string&);
};
struct NoCapabilities : StoreArchetype {
  void capabilities() = delete;
};
static_assert(krul::ConversationStore<StoreArchetype>);
static_assert(!krul::ConversationStore<NoLockType>);
static_assert(!krul::ConversationStore<PutThrowsInstead>);
static_assert(!krul::ConversationStore<GetsWholeObjects>);
static_assert(!krul::ConversationStore<SizeWithoutReason>);
static_assert(!krul::ConversationStore<NoErase>);
static_assert(!krul::ConversationStore<ListsViews>);
static_assert(!krul::ConversationStore<LocksWithBool>);
static_assert(!krul::ConversationStore<NoCapabilities>);

}  // namespace
