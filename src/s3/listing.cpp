#include "listing.hpp"

#include <charconv>
#include <string_view>
#include <utility>

#include "answer.hpp"
#include "krul/store/conversation_store.hpp"
#include "xml.hpp"

namespace krul::s3 {
namespace {

// For listings with encoding-type=url.
std::string url_decoded(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 3, value, 16).ptr == text.data() + i + 3) {
      decoded += static_cast<char>(value);
      i += 2;
    } else {
      decoded += text[i];
    }
  }
  return decoded;
}

}  // namespace

Result<ListingPage> read_listing(std::span<const std::byte> page, const std::string& prefix,
                                 const std::string& action) {
  ListingPage said;
  Listed entry;
  std::string more;
  bool is_list = false, is_strange = false;
  const Status read = read_xml(page, [&](std::string_view path, std::string_view text) {
    if (path == "ListBucketResult/Contents/Key") entry.key = url_decoded(text);
    if (path == "ListBucketResult/Contents/ETag") entry.etag = text;
    if (path == "ListBucketResult/Contents/Size") {
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), entry.bytes);
      is_strange = is_strange || error != std::errc() || end != text.data() + text.size();
    }
    if (path == "ListBucketResult/CommonPrefixes/Prefix") entry.key = url_decoded(text);
    if (path == "ListBucketResult/Contents" || path == "ListBucketResult/CommonPrefixes") {
      if (!is_etag(entry.etag)) entry.etag.clear();
      if (entry.key.starts_with(prefix)) said.listed.push_back(std::move(entry));
      entry = {};
    }
    if (path == "ListBucketResult/NextContinuationToken") said.next = text;
    if (path == "ListBucketResult/IsTruncated") more = text;
    if (path == "ListBucketResult") is_list = true;
  });
  if (!read) return propagate(read);
  if (!is_list || is_strange) return strange(action, "is no list of objects");
  said.has_more = more == "true";
  if (said.has_more && said.next.empty()) return strange(action, "does not say how the list goes on");
  return said;
}

Result<std::vector<ListedUpload>> read_uploads(std::span<const std::byte> page, const std::string& prefix) {
  ListedUpload entry;
  std::vector<ListedUpload> left;
  const Status read = read_xml(page, [&](std::string_view path, std::string_view text) {
    if (path == "ListMultipartUploadsResult/Upload/Key") entry.key = text;
    if (path == "ListMultipartUploadsResult/Upload/UploadId") entry.id = text;
    if (path == "ListMultipartUploadsResult/Upload") left.push_back(std::exchange(entry, {}));
  });
  if (!read) return propagate(read);
  std::erase_if(left, [&](const ListedUpload& upload) {
    return upload.id.empty() || !upload.key.starts_with(prefix) || !is_object_name(upload.key.substr(prefix.size()));
  });
  return left;
}

}  // namespace krul::s3
