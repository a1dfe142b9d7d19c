#include "krul/model/gguf.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <type_traits>
#include <utility>

#include "../core/descriptor.hpp"
#include "quoted.hpp"

namespace krul {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF files are read in place");

// Caps on what a header may claim; real files stay an order of magnitude below.
constexpr std::uint64_t max_keys = 1U << 16;
constexpr std::uint64_t max_tensors = 1U << 16;
constexpr std::uint64_t max_name_bytes = 1U << 16;
constexpr std::uint64_t max_string_bytes = 1U << 26;
constexpr std::uint64_t max_array_values = 1U << 24;
constexpr std::uint32_t max_dimensions = 4;
constexpr std::uint64_t max_alignment = 1U << 16;
constexpr std::uint64_t default_alignment = 32;
constexpr std::string_view magic = "GGUF";

/// The format's numbers for the kinds of metadata values.
enum Kind : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64, kinds };

constexpr std::array<std::uint64_t, kinds> kind_bytes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
constexpr std::array<std::string_view, kinds> kind_names = {
    "an integer", "an integer", "an integer", "an integer", "an integer", "an integer",   "a real number",
    "a boolean",  "a string",   "an array",   "an integer", "an integer", "a real number"};

/// Names of tensor types that exist but that krul does not read; empty where the format has none.
constexpr std::string_view foreign_type_name(std::uint32_t type) {
  constexpr std::string_view names[] = {
      "",         "",         "",        "",      "Q4_2",       "Q4_3",       "",           "",
      "",         "Q8_1",     "Q2_K",    "Q3_K",  "",           "",           "",           "Q8_K",
      "IQ2_XXS",  "IQ2_XS",   "IQ3_XXS", "IQ1_S", "IQ4_NL",     "IQ3_S",      "IQ2_S",      "IQ4_XS",
      "I8",       "I16",      "I32",     "I64",   "F64",        "IQ1_M",      "",           "Q4_0_4_4",
      "Q4_0_4_8", "Q4_0_8_8", "TQ1_0",   "TQ2_0", "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4"};
  return type < std::size(names) ? names[type] : std::string_view{};
}

std::string supported_types() {
  std::string list;
  for (const auto& layout : gguf_types) list += (list.empty() ? "" : ", ") + std::string(layout.name);
  return list;
}

template <class T>
T read_as(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

/// Walks over a header. The first failure stays; after it every read gives zero and `ok()` is false.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, const std::string& path) : bytes_(bytes), path_(path) {}

  [[nodiscard]] bool ok() const noexcept { return status_.has_value(); }
  [[nodiscard]] const Status& status() const noexcept { return status_; }
  [[nodiscard]] std::uint64_t position() const noexcept { return at_; }
  [[nodiscard]] std::uint64_t left() const noexcept { return bytes_.size() - at_; }

  void fail_with(ErrorCode code, const std::string& sentence) {
    if (ok()) status_ = fail(code, path_ + " " + sentence);
  }

  /// The next `count` units of `unit_bytes` bytes each.
  std::span<const std::byte> take(std::uint64_t count, std::uint64_t unit_bytes = 1) {
    std::uint64_t size = 0;
    std::uint64_t end = 0;
    if (__builtin_mul_overflow(count, unit_bytes, &size) || __builtin_add_overflow(at_, size, &end)) {
      fail_with(ErrorCode::too_large, "claims a length beyond 2^64 bytes in its header; the file is damaged");
    } else if (end > bytes_.size()) {
      fail_with(ErrorCode::truncated, "is cut short: its header needs at least " + std::to_string(end) +
                                          " bytes and the file has " + std::to_string(bytes_.size()) +
                                          "; fetch the file again");
    }
    if (!ok()) return {};
    const auto taken = bytes_.subspan(at_, size);
    at_ = end;
    return taken;
  }

  template <class T>
  T number() {
    const auto taken = take(sizeof(T));
    return ok() ? read_as<T>(taken.data()) : T{};
  }

  /// A count or length, at most `cap`.
  std::uint64_t count(std::uint64_t cap, std::string_view what) {
    const auto value = number<std::uint64_t>();
    if (value <= cap) return value;
    fail_with(ErrorCode::too_large, "claims " + std::to_string(value) + " " + std::string(what) + ", and " +
                                        std::to_string(cap) + " is the most that krul reads; the file is damaged");
    return 0;
  }

  std::string_view text(std::uint64_t cap, std::string_view what) {
    const auto taken = take(count(cap, what));
    return {reinterpret_cast<const char*>(taken.data()), taken.size()};
  }

 private:
  std::span<const std::byte> bytes_;
  const std::string& path_;
  std::uint64_t at_ = 0;
  Status status_;
};

/// Passes over `count` values of one kind.
void skip_values(Cursor& cursor, std::uint32_t kind, std::uint64_t count) {
  if (kind != Kind::string) {
    cursor.take(count, kind_bytes[kind]);
    return;
  }
  for (std::uint64_t i = 0; i < count && cursor.ok(); ++i) cursor.text(max_string_bytes, "bytes in a string");
}

/// Magic and version.
void read_preamble(Cursor& cursor, std::span<const std::byte> bytes) {
  const std::string_view beginning(reinterpret_cast<const char*>(bytes.data()), std::min(bytes.size(), magic.size()));
  if (!magic.starts_with(beginning)) {
    cursor.fail_with(ErrorCode::corrupt, "is not a GGUF file; give a model in GGUF format");
    return;
  }
  cursor.take(magic.size());
  const auto version = cursor.number<std::uint32_t>();
  if (!cursor.ok() || version == 2 || version == 3) return;
  const bool swapped = version != 0 && (version & 0xffffU) == 0;
  cursor.fail_with(ErrorCode::unsupported_version,
                   swapped ? "is a big-endian GGUF file and krul reads little-endian ones; convert the model again"
                           : "is GGUF version " + std::to_string(version) +
                                 " and krul reads versions 2 and 3; convert the model again");
}

/// Name, dimensions and type of one tensor, all but its data.
GgufTensor read_tensor(Cursor& cursor) {
  GgufTensor tensor;
  tensor.name = cursor.text(max_name_bytes, "bytes in a tensor's name");
  const auto dimensions = cursor.number<std::uint32_t>();
  if (cursor.ok() && (tensor.name.empty() || dimensions == 0))
    cursor.fail_with(ErrorCode::corrupt, "has a tensor without a name or without dimensions; the file is damaged");
  if (dimensions > max_dimensions)
    cursor.fail_with(ErrorCode::too_large, "gives tensor " + quoted(tensor.name) + " " + std::to_string(dimensions) +
                                               " dimensions, and 4 is the most; the file is damaged");
  for (std::uint32_t i = 0; i < dimensions && cursor.ok(); ++i) tensor.shape.push_back(cursor.number<std::uint64_t>());
  const auto type = cursor.number<std::uint32_t>();
  if (!cursor.ok()) return tensor;
  if (!gguf_type_layout(type)) {
    const auto known = foreign_type_name(type);
    cursor.fail_with(ErrorCode::unsupported,
                     "holds tensor " + quoted(tensor.name) + " as " +
                         (known.empty() ? "unknown type " + std::to_string(type) : std::string(known)) +
                         ", and krul reads " + supported_types() + "; use a model file with one of these types");
  }
  tensor.type = static_cast<GgufType>(type);
  return tensor;
}

/// Bytes of the tensor's data; 0 after a failure.
std::uint64_t data_bytes(Cursor& cursor, const GgufTensor& tensor) {
  const auto layout = layout_of(tensor.type);
  std::uint64_t values = 1;
  std::uint64_t size = 0;
  bool fits = true;
  for (const auto extent : tensor.shape) fits = !__builtin_mul_overflow(values, extent, &values) && fits;
  if (!fits || __builtin_mul_overflow(values / layout.block_values, layout.block_bytes, &size)) {
    cursor.fail_with(ErrorCode::too_large,
                     "gives tensor " + quoted(tensor.name) + " more than 2^64 values or bytes; the file is damaged");
    return 0;
  }
  if (values == 0 || tensor.shape.front() % layout.block_values != 0) {
    cursor.fail_with(ErrorCode::corrupt, "gives tensor " + quoted(tensor.name) + " rows of " +
                                             std::to_string(tensor.shape.front()) +
                                             " values, which is no multiple of " + std::to_string(layout.block_values) +
                                             " or leaves it empty; the file is damaged");
    return 0;
  }
  return size;
}

}  // namespace

void GgufFile::Unmap::operator()(const std::byte* mapping) const noexcept {
  ::munmap(const_cast<std::byte*>(mapping), size);
}

Result<GgufFile> GgufFile::open(const std::filesystem::path& path) {
  auto file = open_one(path);
  if (!file) return file;
  if (const auto status = file->join_files(); !status) return propagate(status);
  return file;
}

Result<GgufFile> GgufFile::open_one(const std::filesystem::path& path) {
  const auto name = path.string();
  const auto refused = [&](int error) {
    return fail(ErrorCode::io, name + " cannot be read: " + std::generic_category().message(error));
  };
  // Not blocking, so that nothing waits for the writer of a pipe.
  const detail::Descriptor descriptor(::open(name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!descriptor.is_open() && (errno == ENOENT || errno == ENOTDIR))
    return fail(ErrorCode::not_found, name + " does not exist; give the path of a model in GGUF format");
  if (!descriptor.is_open()) return refused(errno);

  struct stat facts {};
  if (::fstat(descriptor.get(), &facts) != 0) return refused(errno);
  if (!S_ISREG(facts.st_mode))
    return fail(ErrorCode::invalid_argument, name + " is not a file; give the path of a model in GGUF format");
  const auto size = static_cast<std::size_t>(facts.st_size);
  void* mapping = size > 0 ? ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor.get(), 0) : nullptr;
  if (mapping == MAP_FAILED) return refused(errno);

  const auto* first = static_cast<const std::byte*>(mapping);
  GgufFile file({first, size}, name);
  if (mapping != nullptr) file.mapping_ = {first, Unmap{size}};
  if (const auto status = file.parse(); !status) return propagate(status);
  return file;
}

Result<GgufFile> GgufFile::from_memory(std::span<const std::byte> bytes, std::string path) {
  GgufFile file(bytes, std::move(path));
  if (const auto status = file.parse(); !status) return propagate(status);
  const auto count = file.split_count();
  if (!count) return propagate(count);
  if (*count > 1)
    return fail(ErrorCode::unsupported,
                file.path_ + " is one of " + std::to_string(*count) + " parts of a model; open the first of its files");
  return file;
}

Status GgufFile::parse() {
  Cursor cursor(bytes_, path_);
  read_preamble(cursor, bytes_);
  const auto tensor_count = cursor.count(max_tensors, "tensors");
  const auto key_count = cursor.count(max_keys, "keys");

  for (std::uint64_t i = 0; i < key_count && cursor.ok(); ++i) {
    const auto key = cursor.text(max_name_bytes, "bytes in a key");
    Entry entry{.type = cursor.number<std::uint32_t>(), .array = false, .count = 1, .value = {}};
    entry.array = entry.type == Kind::array;
    if (entry.array) {
      entry.type = cursor.number<std::uint32_t>();
      entry.count = cursor.count(max_array_values, "values in an array");
    }
    if (cursor.ok() && (key.empty() || entry.type >= Kind::kinds || entry.type == Kind::array))
      cursor.fail_with(ErrorCode::corrupt,
                       "has no name or an unknown type of value for key " + quoted(key) + "; the file is damaged");
    if (!cursor.ok()) break;
    const auto begin = cursor.position();
    skip_values(cursor, entry.type, entry.count);
    entry.value = bytes_.subspan(begin, cursor.position() - begin);
    if (!entry_of_.emplace(key, entry).second)
      cursor.fail_with(ErrorCode::corrupt, "has key " + quoted(key) + " twice; the file is damaged");
  }

  std::vector<std::uint64_t> offsets;
  for (std::uint64_t i = 0; i < tensor_count && cursor.ok(); ++i) {
    tensors_.push_back(read_tensor(cursor));
    offsets.push_back(cursor.number<std::uint64_t>());
    if (cursor.ok() && !tensor_of_.emplace(tensors_.back().name, i).second)
      cursor.fail_with(ErrorCode::corrupt,
                       "has tensor " + quoted(tensors_.back().name) + " twice; the file is damaged");
  }
  if (!cursor.ok()) return cursor.status();

  auto alignment = default_alignment;
  if (has("general.alignment")) {
    const auto stated = unsigned_value("general.alignment");
    if (!stated) return propagate(stated);
    alignment = *stated;
  }
  if (!std::has_single_bit(alignment) || alignment > max_alignment)
    return fail(ErrorCode::corrupt, path_ + " aligns its tensors to " + std::to_string(alignment) +
                                        " bytes, which is no power of two up to 65536; the file is damaged");

  // The header ends below 2^63, so that rounding it up cannot overflow.
  const auto data_begin = (cursor.position() + alignment - 1) & ~(alignment - 1);
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    auto& tensor = tensors_[i];
    const auto size = data_bytes(cursor, tensor);
    if (!cursor.ok()) return cursor.status();
    if (offsets[i] % alignment != 0)
      return fail(ErrorCode::corrupt, path_ + " puts tensor " + quoted(tensor.name) +
                                          " at an offset that is not aligned; the file is damaged");
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    if (__builtin_add_overflow(data_begin, offsets[i], &begin) || __builtin_add_overflow(begin, size, &end))
      return fail(ErrorCode::too_large,
                  path_ + " puts tensor " + quoted(tensor.name) + " beyond 2^64 bytes; the file is damaged");
    if (end > bytes_.size())
      return fail(ErrorCode::truncated, path_ + " is cut short: tensor " + quoted(tensor.name) + " ends at byte " +
                                            std::to_string(end) + " and the file has " + std::to_string(bytes_.size()) +
                                            "; fetch the file again");
    tensor.data = bytes_.subspan(begin, size);
  }
  return {};
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  const auto found = tensor_of_.find(name);
  return found == tensor_of_.end() ? nullptr : &tensors_[found->second];
}

std::vector<std::string_view> GgufFile::keys() const {
  std::vector<std::string_view> keys;
  keys.reserve(entry_of_.size());
  for (const auto& [key, ignored] : entry_of_) keys.push_back(key);
  std::sort(keys.begin(), keys.end());
  return keys;
}

std::span<const std::byte> GgufFile::value_bytes(std::string_view key) const {
  const auto found = entry_of_.find(key);
  return found == entry_of_.end() ? std::span<const std::byte>{} : found->second.value;
}

tl::unexpected<Error> GgufFile::wrong_kind(std::string_view key, std::string_view wanted) const {
  const auto& entry = entry_of_.at(key);
  return fail(ErrorCode::corrupt, path_ + " holds " + (entry.array ? "an array where each value is " : "") +
                                      std::string(kind_names[entry.type]) + " for key " + quoted(key) + " where " +
                                      std::string(wanted) + " is needed; use another conversion of the model");
}

Result<GgufFile::Entry> GgufFile::entry(std::string_view key, bool array, std::string_view wanted) const {
  const auto found = entry_of_.find(key);
  if (found == entry_of_.end())
    return fail(ErrorCode::not_found,
                path_ + " has no key " + quoted(key) + "; use a complete conversion of the model");
  if (found->second.array != array) return wrong_kind(key, wanted);
  return found->second;
}

namespace {

/// Calls visit(value) with the number of kind `kind` at `at`, booleans as bool; false if it is no number.
template <class Visit>
bool visit_number(std::uint32_t kind, const std::byte* at, Visit&& visit) {
  switch (kind) {
    case Kind::u8:
      visit(read_as<std::uint8_t>(at));
      return true;
    case Kind::i8:
      visit(read_as<std::int8_t>(at));
      return true;
    case Kind::u16:
      visit(read_as<std::uint16_t>(at));
      return true;
    case Kind::i16:
      visit(read_as<std::int16_t>(at));
      return true;
    case Kind::u32:
      visit(read_as<std::uint32_t>(at));
      return true;
    case Kind::i32:
      visit(read_as<std::int32_t>(at));
      return true;
    case Kind::u64:
      visit(read_as<std::uint64_t>(at));
      return true;
    case Kind::i64:
      visit(read_as<std::int64_t>(at));
      return true;
    case Kind::f32:
      visit(read_as<float>(at));
      return true;
    case Kind::f64:
      visit(read_as<double>(at));
      return true;
    default:
      return false;
  }
}

}  // namespace

Result<std::uint64_t> GgufFile::unsigned_value(std::string_view key) const {
  constexpr std::string_view wanted = "an integer >= 0";
  const auto found = entry(key, false, wanted);
  if (!found) return propagate(found);
  std::uint64_t result = 0;
  bool fits = false;
  visit_number(found->type, found->value.data(), [&](auto value) {
    if constexpr (std::is_integral_v<decltype(value)>) {
      fits = std::in_range<std::uint64_t>(value);
      result = static_cast<std::uint64_t>(value);
    }
  });
  if (!fits) return wrong_kind(key, wanted);
  return result;
}

Result<double> GgufFile::real_value(std::string_view key) const {
  constexpr std::string_view wanted = "a number";
  const auto found = entry(key, false, wanted);
  if (!found) return propagate(found);
  double result = 0;
  if (!visit_number(found->type, found->value.data(), [&](auto value) { result = static_cast<double>(value); }))
    return wrong_kind(key, wanted);
  return result;
}

Result<bool> GgufFile::bool_value(std::string_view key) const {
  constexpr std::string_view wanted = "a boolean";
  const auto found = entry(key, false, wanted);
  if (!found) return propagate(found);
  if (found->type != Kind::boolean || found->value[0] > std::byte{1}) return wrong_kind(key, wanted);
  return found->value[0] == std::byte{1};
}

Result<std::string_view> GgufFile::string_value(std::string_view key) const {
  constexpr std::string_view wanted = "a string";
  const auto found = entry(key, false, wanted);
  if (!found) return propagate(found);
  if (found->type != Kind::string) return wrong_kind(key, wanted);
  return Cursor(found->value, path_).text(max_string_bytes, "bytes in a string");
}

Result<std::vector<std::string_view>> GgufFile::string_array(std::string_view key) const {
  constexpr std::string_view wanted = "an array of strings";
  const auto found = entry(key, true, wanted);
  if (!found) return propagate(found);
  if (found->type != Kind::string) return wrong_kind(key, wanted);
  std::vector<std::string_view> strings;
  strings.reserve(found->count);  // each takes 8 bytes of the file or more
  Cursor cursor(found->value, path_);
  for (std::uint64_t i = 0; i < found->count; ++i)
    strings.push_back(cursor.text(max_string_bytes, "bytes in a string"));
  return strings;
}

Result<std::vector<std::int64_t>> GgufFile::integer_array(std::string_view key) const {
  constexpr std::string_view wanted = "an array of integers below 2^63";
  const auto found = entry(key, true, wanted);
  if (!found) return propagate(found);
  if (found->type == Kind::string || found->type == Kind::f32 || found->type == Kind::f64)
    return wrong_kind(key, wanted);
  const auto kind = found->type == Kind::boolean ? std::uint32_t{Kind::u8} : found->type;
  std::vector<std::int64_t> integers(found->count);
  bool fits = true;
  for (std::uint64_t i = 0; i < found->count; ++i)
    visit_number(kind, found->value.data() + i * kind_bytes[kind], [&](auto value) {
      if constexpr (std::is_integral_v<decltype(value)>) {
        fits = fits && std::in_range<std::int64_t>(value);
        integers[i] = static_cast<std::int64_t>(value);
      }
    });
  if (!fits) return wrong_kind(key, wanted);
  return integers;
}

}  // namespace krul
