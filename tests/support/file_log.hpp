#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace krul::test {

/// One thing that was done to a file or folder and succeeded. Both are nodes: 0 is the folder that is watched, others
/// are numbered as they are made.
struct FileOperation {
  enum class Kind : std::uint8_t {
    make_file,    ///< `node`, as `name` in `folder`
    make_folder,  ///< `node`, as `name` in `folder`
    rename,       ///< `name` to `to` in `folder`
    remove,       ///< `name` from `folder`
    write,        ///< `bytes` to the end of `node`
    sync,         ///< all of `node` is on the medium: a file's bytes, a folder's names
  };
  Kind kind;
  std::size_t folder = 0, node = 0;
  std::string name = {}, to = {};
  std::vector<std::byte> bytes = {};
};

struct FileLog {
  std::vector<FileOperation> operations;
  std::size_t nodes = 1;
};

}  // namespace krul::test
