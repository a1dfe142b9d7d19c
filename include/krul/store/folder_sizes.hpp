#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/store/conversation_store.hpp"
#include "krul/store/object_sizes.hpp"

namespace krul {

/// The objects of one folder, in bytes.
class FolderSizes {
 public:
  /// Asks the store. Objects that go meanwhile are left out; one whose size cannot be told has what it had before.
  /// @return what the store says if it cannot list the folder
  template <ConversationStore S>
  [[nodiscard]] static Result<FolderSizes> of(S& store, const std::string& folder, const FolderSizes& before) {
    const auto names = store.list(folder);
    if (!names) return propagate(names);
    std::vector<std::string> keys;
    for (const std::string& name : *names) keys.push_back(folder + "/" + name);
    const auto found = object_sizes(store, std::span<const std::string>(keys));
    FolderSizes sizes;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      if (!found[i] && found[i].error().code == ErrorCode::not_found) continue;
      const std::string& name = (*names)[i];
      sizes.set(name, found[i] ? *found[i] : before.of(name));
      if (!found[i] && !means_damage(found[i].error().code) && !sizes.unread_) sizes.unread_ = found[i].error();
    }
    return sizes;
  }
  /// The same of a folder that was not asked for before.
  template <ConversationStore S>
  [[nodiscard]] static Result<FolderSizes> of(S& store, const std::string& folder) {
    return of(store, folder, FolderSizes());
  }

  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] const std::map<std::string, std::uint64_t>& objects() const noexcept { return objects_; }
  [[nodiscard]] std::uint64_t of(const std::string& object) const {
    const auto found = objects_.find(object);
    return found == objects_.end() ? 0 : found->second;
  }
  /// Why the size of an object could not be told that may be whole; nothing if there is none.
  [[nodiscard]] const std::optional<Error>& unread() const noexcept { return unread_; }
  void set(const std::string& object, std::uint64_t bytes) {
    forget(object);
    objects_[object] = bytes;
    bytes_ += bytes;
  }
  void forget(const std::string& object) {
    bytes_ -= of(object);
    objects_.erase(object);
  }

 private:
  std::map<std::string, std::uint64_t> objects_;
  std::uint64_t bytes_ = 0;
  std::optional<Error> unread_;
};

}  // namespace krul
