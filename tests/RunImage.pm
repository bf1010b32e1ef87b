# tests/RunImage.pm - for the tests that run thousands of images.
package RunImage;
use strict;

# Write these bytes to the file $image, and run the command on it: its output is
# dropped, its messages go to $image.err, and SIGALRM ends it after 20 seconds.
# Returns its wait status.
sub run_image {
	my ($image, $bytes, @command) = @_;
	open my $f, ">", $image or die "$image: $!";
	binmode $f;
	print $f $bytes;
	close $f;
	my $pid = fork;
	if (!$pid) {
		open STDOUT, ">", "/dev/null";
		open STDERR, ">", "$image.err";
		alarm 20;
		exec @command, $image;
	}
	waitpid $pid, 0;
	return $?;
}

1;
