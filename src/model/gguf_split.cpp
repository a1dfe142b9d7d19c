#include <cstdio>
#include <optional>
#include <utility>

#include "krul/model/gguf.hpp"
#include "quoted.hpp"

namespace krul {
namespace {

constexpr std::uint64_t most_files = 99'999;  // as many as names have digits for

/// How the name of one of a model's files ends.
std::string name_end(std::uint64_t index, std::uint64_t count) {
  char text[64];
  std::snprintf(text, sizeof text, "-%05llu-of-%05llu.gguf", static_cast<unsigned long long>(index + 1),
                static_cast<unsigned long long>(count));
  return text;
}

/// The path without that end.
std::optional<std::string> name_front(const std::string& path, std::uint64_t index, std::uint64_t count) {
  const auto end = name_end(index, count);
  if (!path.ends_with(end)) return std::nullopt;
  return path.substr(0, path.size() - end.size());
}

std::string ordinal(std::uint64_t index, std::uint64_t count) {
  return "part " + std::to_string(index + 1) + " of " + std::to_string(count);
}

}  // namespace

Result<std::uint64_t> GgufFile::split_count() const {
  if (!has("split.count")) return 1;
  auto count = unsigned_value("split.count");
  if (count && *count > most_files)
    return fail(ErrorCode::too_large,
                path_ + " claims to be one of " + std::to_string(*count) + " parts of a model; the file is damaged");
  return count;
}

Status GgufFile::join_files() {
  const auto count = split_count();
  if (!count) return propagate(count);
  if (*count <= 1) return {};
  const auto own = unsigned_value("split.no");
  if (!own) return propagate(own);
  if (*own != 0) {
    const auto front = name_front(path_, *own, *count);
    return fail(ErrorCode::invalid_argument, path_ + " is " + ordinal(*own, *count) + " of a model; give the first" +
                                                 (front ? ": " + *front + name_end(0, *count) : ""));
  }
  const auto front = name_front(path_, 0, *count);
  if (!front)
    return fail(ErrorCode::invalid_argument, path_ + " is " + ordinal(0, *count) + " of a model; name its files NAME" +
                                                 name_end(0, *count) + " and so on, for krul to find the others");
  for (std::uint64_t i = 1; i < *count; ++i) {
    auto next = open_one(*front + name_end(i, *count));
    if (!next) return fail(next.error().code, ordinal(i, *count) + " of the model: " + next.error().message);
    const auto index = next->unsigned_value("split.no"), of = next->unsigned_value("split.count");
    if (!index || !of || *index != i || *of != *count)
      return fail(ErrorCode::corrupt,
                  next->path_ + " is not " + ordinal(i, *count) + " of a model; fetch the files again");
    for (auto& tensor : next->tensors_) {
      if (!tensor_of_.emplace(tensor.name, tensors_.size()).second)
        return fail(ErrorCode::corrupt, next->path_ + " has tensor " + quoted(tensor.name) +
                                            ", which an earlier part has; fetch the files again");
      tensors_.push_back(std::move(tensor));
    }
    next->tensors_.clear();
    next->tensor_of_.clear();
    more_files_.push_back(std::move(*next));
  }
  if (!has("split.tensors.count")) return {};
  const auto tensors = unsigned_value("split.tensors.count");
  if (!tensors) return propagate(tensors);
  if (*tensors != tensors_.size())
    return fail(ErrorCode::corrupt, path_ + " says that all parts have " + std::to_string(*tensors) +
                                        " tensors, and they have " + std::to_string(tensors_.size()) +
                                        "; fetch the files again");
  return {};
}

}  // namespace krul
