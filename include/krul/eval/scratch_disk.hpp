#pragma once

#include <filesystem>
#include <utility>

#include "krul/core/error.hpp"
#include "krul/core/temporary_folder.hpp"
#include "krul/eval/link_name.hpp"
#include "krul/store/any_store.hpp"
#include "krul/store/file_store.hpp"
#include "krul/store/memory_store.hpp"
#include "krul/store/page_cache.hpp"

namespace krul::eval {

/// A store on a disk that lasts as long as what is measured with it.
class ScratchDisk {
 public:
  /// @param place  a folder of the disk, made for this user alone if it is not there
  /// @return       as TemporaryFolder::make and FileStore::open
  [[nodiscard]] static Result<ScratchDisk> make(const std::filesystem::path& place) {
    auto folder = TemporaryFolder::make(place);
    if (!folder) return propagate(folder);
    auto store = FileStore::open(folder->path());
    if (!store) return propagate(store);
    return ScratchDisk(std::move(*folder), std::move(*store));
  }

  /// Copies of it are the same store, which is gone when this is.
  [[nodiscard]] AnyStore& store() noexcept { return store_; }

  /// The next reads come from the disk itself, as far as the system follows the advice.
  void cool() const { drop_from_page_cache(folder_.path()); }

 private:
  ScratchDisk(TemporaryFolder folder, FileStore store) : folder_(std::move(folder)), store_(std::move(store)) {}

  TemporaryFolder folder_;
  AnyStore store_;
};

/// Where measurements of several links save.
struct ScratchStores {
  ScratchDisk disk;
  AnyStore memory = MemoryStore();

  /// What lies behind a link: the disk, or for any other link memory.
  [[nodiscard]] AnyStore& behind(const LinkName& link) noexcept {
    return link.kind == LinkName::Kind::disk ? disk.store() : memory;
  }
};

}  // namespace krul::eval
