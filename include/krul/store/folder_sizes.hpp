#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
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
  /// Asks the store. Objects that go meanwhile are left out; one whose size cannot be told has none: see counted().
  /// @return what the store says if it cannot list the folder
  template <ConversationStore S>
  [[nodiscard]] static Result<FolderSizes> of(S& store, const std::string& folder) {
    const auto names = store.list(folder);
    if (!names) return propagate(names);
    std::vector<std::string> keys;
    for (const std::string& name : *names) keys.push_back(folder + "/" + name);
    const auto found = object_sizes(store, std::span<const std::string>(keys));
    FolderSizes sizes;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      if (!found[i] && found[i].error().code == ErrorCode::not_found) continue;
      const std::string& name = (*names)[i];
      sizes.set(name, found[i].value_or(0));
      if (found[i]) continue;
      sizes.untold_.push_back(name);
      if (!means_damage(found[i].error().code) && sizes.counted_) sizes.counted_ = propagate(found[i]);
    }
    return sizes;
  }

  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] const std::map<std::string, std::uint64_t>& objects() const noexcept { return objects_; }
  [[nodiscard]] std::uint64_t of(const std::string& object) const {
    const auto found = objects_.find(object);
    return found == objects_.end() ? 0 : found->second;
  }
  /// Why the size of an object could not be told that may be whole, if there is one.
  [[nodiscard]] const Status& counted() const noexcept { return counted_; }
  /// Objects whose size could not be told have what they had before.
  void keep_untold(const FolderSizes& before) {
    for (const std::string& object : untold_) set(object, before.of(object));
  }
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
  std::vector<std::string> untold_;
  Status counted_;
};

}  // namespace krul
